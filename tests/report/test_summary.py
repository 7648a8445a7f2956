"""Tests of the summary: verdict, headline metrics, tables, and the license in the model card."""

import pytest

from slm.data.summary import CorpusSummary
from slm.report.card import UNKNOWN_LICENSE, data_license
from slm.report.results import read_results
from slm.report.summary import headlines, tables, verdict
from tests.result_files import PARAMS, with_datasets, write_figure, write_results


def read(folder, known):
    write_results(folder, known)
    write_figure(folder)
    return read_results(folder, with_datasets("lambada") if known else PARAMS)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return read(tmp_path_factory.mktemp("known"), known=True)


@pytest.fixture(scope="module")
def fewer_results(tmp_path_factory):
    return read(tmp_path_factory.mktemp("less"), known=False)


def test_headlines_omit_unknown_metrics(results, fewer_results):
    always = ["validation loss", "perplexity", "bits per byte", "copy rate"]
    assert [line.name for line in headlines(fewer_results)] == always
    assert {line.name for line in headlines(results)} > {*always}


def test_verdict_is_one_sentence_of_known_results(results, fewer_results):
    assert verdict(results) == (
        "The model closes 75% of the gap between a 5-gram model and the entropy of the text; "
        "50% of its samples are consistent, 25% are copied."
    )
    assert verdict(fewer_results) == (
        "The model has a perplexity of 7.4: it is as uncertain as when choosing uniformly among that many "
        "tokens; 25% of its samples are copied from the training data."
    )


@pytest.mark.parametrize(
    ("bits", "gap", "text"),
    [
        (1.0, None, "The model needs 38% fewer bits per byte than a 5-gram model on held-out text;"),
        (1.7, None, "The model does not predict held-out text better than a 5-gram model;"),
        (1.7, -0.1, "The model does not predict held-out text better than a 5-gram model;"),
    ],
)
def test_verdict_without_entropy_compares_bits_per_byte(results, bits, gap, text):
    metrics = results.facts.eval.model_copy(update={"bits_per_byte": bits, "ngram_gap_closed": gap})
    assert verdict(results._replace(facts=results.facts._replace(eval=metrics))).startswith(text)


def test_verdict_without_copies_says_none(results):
    samples = results.samples.model_copy(update={"copy_rate": 0.0})
    assert verdict(results._replace(samples=samples)).endswith("are consistent, none are copied.")


def test_tables_have_all_numbers_and_no_empty_columns(results, fewer_results):
    more, less = tables(results), tables(fewer_results)
    assert more.keys() - less.keys() == {"minimal_pairs", "datasets"}
    header = ["dataset", "bits per byte", "last-word accuracy"]
    assert more["datasets"] == (header, [["lambada", "2.500", "12%"]])
    assert more["bits_per_byte"].rows[1] == ["5-gram", "1.6000", "1.60 ×"]
    assert more["samples"].header[3] == "consistency"
    assert more["samples"].rows[0] == ["0.5", "4", "100%", "50%", "50%", "0%", "25%"]
    assert less["samples"].rows[0] == ["0.5", "4", "100%", "50%", "0%", "25%"]


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ({"source": "synthetic: stories", "license": "MIT"}, "MIT, the project’s own"),
        ({"source": "hub", "name": "roneneldan/TinyStories", "license": "not stated"}, "CDLA-Sharing-1.0"),
        ({"source": "hub", "name": "owner/films", "license": "apache-2.0"}, "apache-2.0"),
        ({"source": "hub", "name": "owner/films", "license": "not stated"}, UNKNOWN_LICENSE),
        (
            {"source": "files", "license": "as the owner of the files says"},
            "as the owner of the files says",
        ),
    ],
)
def test_data_license_is_stated_if_known(origin, expected):
    split = {"documents": 1, "bytes": 1}
    assert data_license(CorpusSummary(**origin, train=split, validation=split)) == expected
