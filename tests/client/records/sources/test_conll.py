"""Files with a word and its tag a line."""

from pathlib import Path

import pytest

from confide.client.records.sources.sources import SourceRecords, column_names, load_records
from confide.errors import DataError

TWO = "EU\tB-ORG\nrejects\tO\n\t\n\nPeter\tB-PER\n"
COLUMNS = ("words", "tags", "document")


def load(path: Path, text: str) -> SourceRecords:
    path.write_bytes(text.encode())
    return load_records(str(path), COLUMNS, in_memory_mb=1)


@pytest.mark.parametrize("ending", [".txt", ".conll", ".bio", ".iob2"])
@pytest.mark.parametrize("text", [TWO, TWO.replace("\n", "\r\n"), "\n" + TWO.rstrip("\n")])
def test_sentences_are_lists_with_the_line_they_begin_in(
    tmp_path: Path, ending: str, text: str
) -> None:
    source = load(tmp_path / f"x{ending}", text)
    assert source.records["words"][:] == ['["EU","rejects"]', '["Peter"]']
    assert source.records["tags"][:] == ['["B-ORG","O"]', '["B-PER"]']
    first = 2 if text.startswith("\n") else 1
    assert list(source.lines[""]) == [first, first + 4]


def test_documents_are_numbered_and_middle_columns_have_names(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- O\n\nEU NNP B-ORG\n\n-DOCSTART- -X- O\n\nhe PRP O\nran VB O\n"
    source = load(tmp_path / "x.conll", text)
    assert source.records["document"][:] == ["1", "2"]
    assert column_names(str(tmp_path / "x.conll")) == ("words", "column_2", "tags", "document")


def test_words_alone_are_a_file_to_predict_on(tmp_path: Path) -> None:
    path = tmp_path / "x.conll"
    path.write_text("EU\nrejects\n\nPeter\n")
    assert column_names(str(path)) == ("words", "document")


@pytest.mark.parametrize("text", ["Angela Merkel visited Paris .\n", "Merkel went.\nHe stayed.\n"])
def test_prose_is_not_taken_for_words_with_tags(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"line 1 ends in '(\.|went\.)', which is no tag: a \.txt"):
        load(tmp_path / "x.txt", text)
    assert load(tmp_path / "x.conll", text).records["words"][:]


@pytest.mark.parametrize("tag", ["O", "o", "b-per", "PER", "3", "PER-B", "B_PER", "S-geo-loc"])
def test_tags_of_a_text_file_may_look_like_any(tmp_path: Path, tag: str) -> None:
    source = load(tmp_path / "x.txt", f"Paris\t{tag}\n")
    assert source.records["tags"][:] == [f'["{tag}"]']


def test_blanks_of_other_kinds_belong_to_a_word(tmp_path: Path) -> None:
    source = load(tmp_path / "x.conll", "12\u00a0000 O\n\u3000 O\n")
    assert source.records["words"][:] == ['["12\u00a0000","\u3000"]']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EU B-ORG\nrejects\n", "line 2 has 1 field, expected the 2 of the first word"),
        ("EU B-ORG\na b O\n", "line 2 has 3 fields"),
        ("\n\n", "holds no word"),
    ],
)
def test_file_that_is_none_of_the_form_is_told_with_the_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path / "x.conll", text)
