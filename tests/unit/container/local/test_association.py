"""Filters and joins, in the forms that the documentation of transform jobs shows."""

from __future__ import annotations

import pytest

from container.local.association import Association, DataProcessing
from container.local.jsonpath import InvalidPath, parse, pick
from container.local.records import InvalidInput

VALUE = {"id": 7, "features": [1, 2, 3], "deep": {"a b": [{"x": 1}]}}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", VALUE),
        ("$.id", 7),
        ("$.features[1]", 2),
        ("$.features[-1]", 3),
        ("$.features[1:]", [2, 3]),
        ("$.features[:-1]", [1, 2]),
        ("$.features[0,2]", [1, 3]),
        ("$['deep']['a b'][0].x", 1),
        ("$.deep.['a b'][0].x", 1),
        ("$['id','features']", {"id": 7, "features": [1, 2, 3]}),
    ],
)
def test_what_a_path_points_to(path: str, found: object) -> None:
    assert pick(VALUE, parse(path)) == found


@pytest.mark.parametrize(
    "path", ["features", "$.", "$[", "$[x]", "$..a", "$.*", "$[?@.a]", "$[0:1,2]", "$.a | $.b", "$" + ".a" * 32]
)
def test_a_path_that_cannot_be_read_is_refused(path: str) -> None:
    with pytest.raises(InvalidPath):
        parse(path)


@pytest.mark.parametrize("path", ["$.absent", "$.features[9]", "$.features.x", "$.id[0]", "$.id[0:1]"])
def test_a_path_to_nothing_is_refused(path: str) -> None:
    with pytest.raises(InvalidPath):
        pick(VALUE, parse(path))


def test_csv_columns_are_left_out_joined_and_picked() -> None:
    how = Association(DataProcessing("$[1:]", "$[0,-1]", "Input"), "text/csv; charset=utf-8", "text/csv")
    assert how.sent(b'id-1,"a, b",2') == b'"a, b",2'
    assert how.results([b"id-1,1,2", b"id-2,3,4"], iter([b"0.5", b"0.7"])) == b"id-1,0.5\nid-2,0.7\n"


def test_json_lines_get_the_prediction_as_a_member() -> None:
    how = Association(DataProcessing("$.features", "$", "Input"), "application/jsonlines", "")
    assert how.sent(b'{"id":1,"features":[1,2]}') == b"[1,2]"
    joined = how.results([b'{"id":1}', b"[3]"], iter([b"[0.5]", b"[0.6]"]))
    assert joined == b'{"id":1,"SageMakerOutput":[0.5]}\n{"SageMakerInput":[3],"SageMakerOutput":[0.6]}\n'


def test_an_output_filter_alone_picks_from_the_prediction() -> None:
    how = Association(DataProcessing(output_filter="$.label"), "text/csv", "application/jsonlines")
    assert how.results([b"1,2"], iter([b'{"label":3,"p":0.9}'])) == b"3\n"


def test_a_join_needs_a_line_for_each_record() -> None:
    how = Association(DataProcessing(join_source="Input"), "text/csv", "")
    with pytest.raises(InvalidInput, match="2 records were sent, and 1 lines came back"):
        how.results([b"1", b"2"], iter([b"1"]))


@pytest.mark.parametrize(
    ("processing", "content_type", "accept", "said"),
    [
        (DataProcessing("$[x]"), "text/csv", "", "DataProcessing"),
        (DataProcessing("$[1:]"), "image/png", "", "not image/png"),
        (DataProcessing(join_source="Input"), "text/csv", "application/jsonlines", "set Accept to text/csv"),
    ],
)
def test_invalid_filters_are_refused_at_the_start(
    processing: DataProcessing, content_type: str, accept: str, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        Association(processing, content_type, accept)


def test_lines_that_are_no_json_are_quoted() -> None:
    how = Association(DataProcessing("$.a"), "application/jsonlines", "")
    with pytest.raises(InvalidInput, match="a line is no JSON"):
        how.sent(b"{")
    with pytest.raises(InvalidInput, match="'a' is not in"):
        how.sent(b'{"b":1}')
