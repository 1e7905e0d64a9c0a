"""A contract for import-linter: each room of the project may import the modules of its list, and no others of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowListContract(Contract):
    """Every line of ``rooms`` is ``ROOM -> MODULE MODULE ...``: the room imports no other modules of ours directly.

    ``.MODULE`` is a module of the room's own package. A room is a module with its submodules, and so is a module of a
    list; but a whole package, such as ``server``, stands for its ``__init__`` alone. The first room that fits counts. A
    module that is in no room breaks the contract, so that a new one gets a line. Libraries are not looked at.
    """

    type_name = "allow_list"

    rooms = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """The direct imports that leave the lists, as ``importer -> imported`` with their lines."""
        return ContractCheck(kept=not (found := [*self._found(graph)]), metadata={"imports": found})

    def _found(self, graph: ImportGraph) -> Iterator[str]:
        lists = dict(_parsed(line) for line in cast("list[str]", self.rooms))
        packages = {room.partition(".")[0] for room in lists}
        for importer in sorted(graph.modules):
            if importer in packages or importer.partition(".")[0] not in packages:
                continue
            room = next((one for one in lists if _inside(importer, one)), None)
            if room is None:
                yield f"{importer} is in no room: give it a line"
                continue
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                ours = imported.partition(".")[0] in packages
                if ours and not any(_inside(imported, one) for one in (room, *lists[room])):
                    details = graph.get_import_details(importer=importer, imported=imported)
                    yield f"{importer} -> {imported} (l. {', '.join(str(one['line_number']) for one in details)})"

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print every import that no list allows."""
        for line in check.metadata["imports"]:
            output.print_error(line, bold=False)


def _parsed(line: str) -> tuple[str, list[str]]:
    room, allowed = (part.strip() for part in line.split("->"))
    package = room.partition(".")[0]
    return room, [package + one if one.startswith(".") else one for one in allowed.split()]


def _inside(module: str, room: str) -> bool:
    return module == room or ("." in room and module.startswith(room + "."))
