"""A contract for import-linter: the modules of a package may import these modules of ours, and no others."""

from __future__ import annotations

from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowListContract(Contract):
    """Every direct import of ``source`` and its submodules stays inside ``source`` or the ``allowed`` modules.

    An allowed module covers its submodules. Packages from outside the project are not looked at.
    """

    type_name = "allow_list"

    source = fields.StringField()
    allowed = fields.ListField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """The direct imports that leave the list, as ``importer -> imported`` with their lines."""
        source = str(self.source)
        permitted = (source, *cast("list[str]", self.allowed or []))
        ours = {module.partition(".")[0] for module in graph.modules if not graph.is_module_squashed(module)}
        importers = {source, *graph.find_descendants(source)}
        found = []
        for importer in sorted(importers):
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                if imported.partition(".")[0] not in ours or _covered(imported, permitted):
                    continue
                details = graph.get_import_details(importer=importer, imported=imported)
                lines = ", ".join(str(one["line_number"]) for one in details)
                found.append(f"{importer} -> {imported} (l. {lines})")
        return ContractCheck(kept=not found, metadata={"imports": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print every import that the list does not allow."""
        for line in check.metadata["imports"]:
            output.print_error(line, bold=False)


def _covered(module: str, permitted: tuple[str, ...]) -> bool:
    return any(module == one or module.startswith(one + ".") for one in permitted)
