"""Pages and cards say which gaps are sure, who is not told, and that noise is in the figures."""

from typing import Any

from confide.server.report.sections.subgroups_section import subgroup_blocks, subgroup_card


def figure(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "interval": [low, high]}


def group(name: str, selection: float, recall: float, size: int) -> dict[str, Any]:
    measures = {
        "accuracy": figure(0.8, 0.7, 0.9),
        "selection_rate": figure(selection, selection - 0.1, selection + 0.1),
        "recall": figure(recall, recall - 0.1, recall + 0.1),
        "prevalence": figure(0.4, 0.3, 0.5),
    }
    return {
        "group": name,
        "records": figure(size, size, size),
        "institutions": 3,
        "measures": measures,
    }


def gap(measure: str, called: str, value: float, low: float) -> dict[str, Any]:
    ends = figure(value, low, value + 0.1)
    return {
        **{"measure": measure, "called": called, "highest": "Male", "lowest": "<Female>"},
        **{**ends, "beyond_chance": low > 0},
    }


def evaluation(**more: Any) -> dict[str, Any]:
    column = {
        "groups": [group("Male", 0.6, 0.8, 132), group("<Female>", 0.2, 0.6, 34)],
        "withheld": ["not stated"],
        "gaps": [
            gap("selection_rate", "demographic parity", 0.4, 0.2),
            gap("recall", "equal opportunity", 0.2, -0.1),
            gap("recall", "equalised odds", 0.2, -0.1),
        ],
        "selection_ratio": {
            **figure(0.33, 0.2, 0.6),
            **{"highest": "Male", "lowest": "<Female>", "below_four_fifths": True},
        },
    }
    told = {"floor": 20, "noise": 0.0, "positive": "present", "institutions": []}
    return {"subgroups": {**told, "columns": {"sex": column}, **more}}


def test_page_has_a_block_a_column_with_gaps_in_words() -> None:
    (block,) = subgroup_blocks(evaluation())
    assert block.title == "By sex"
    said = " ".join(block.paragraphs)
    assert "Beyond chance: selection rate (demographic parity), 0.400 (0.20 to 0.50)" in said
    assert "equal opportunity" not in said  # which chance may explain
    assert "below 0.8, the rule of four fifths" in said
    assert "Not told: not stated" in said
    assert "The selection rate of “<Female>” is 0.330 (0.20 to 0.60) times that of “Male”" in said
    assert "selection rate, the share of records that are predicted “present”" in said
    assert "recall (true positive rate), of those that are “present”" in said
    headers = block.tables[0].headers
    assert headers[2:] == ["accuracy", "selection rate", "recall", "prevalence"]
    assert len(block.pictures) == 1
    assert [len(table.rows) for table in block.tables] == [2, 3]


def test_noise_is_told() -> None:
    (block,) = subgroup_blocks(evaluation(noise=2.5))
    assert any("with noise" in note and "2.5" in note for note in block.notes)
    assert any("with noise" in said for said in subgroup_card(evaluation(noise=2.5)))


def test_nothing_told_is_said_and_no_groups_are_not() -> None:
    (block,) = subgroup_blocks(evaluation(columns={}))
    assert "of none is anything told" in block.paragraphs[0]
    assert subgroup_blocks({}) == subgroup_card({}) == []


def test_gaps_between_institutions_have_a_block_of_their_own() -> None:
    blocks = subgroup_blocks(evaluation(institutions=[gap("accuracy", "", 0.3, 0.1)]))
    assert [block.title for block in blocks] == ["By sex", "Gaps between institutions"]


def test_card_has_a_table_and_names_are_text() -> None:
    table, said = subgroup_card(evaluation())
    assert table.splitlines()[0].startswith("| by sex | test records | accuracy |")
    assert "<Female>" not in table + said
    assert r"\<Female\>" in table
    assert "Beyond chance" in said
