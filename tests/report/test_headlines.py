"""What the report says of a model in words: the verdict, the headline numbers, its license."""

import pytest

from slm.data.summary import CorpusSummary
from slm.report.card import UNKNOWN_LICENSE, license_of
from slm.report.headlines import headlines, verdict
from slm.report.results import read_results
from tests.findings import PARAMS, write_figure, write_results


def read(folder, known):
    write_results(folder, known)
    write_figure(folder)
    return read_results(folder, PARAMS)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return read(tmp_path_factory.mktemp("known"), known=True)


@pytest.fixture(scope="module")
def fewer_results(tmp_path_factory):
    return read(tmp_path_factory.mktemp("less"), known=False)


def test_a_headline_that_is_not_known_is_left_out(results, fewer_results):
    always = ["loss", "perplexity", "bits a byte", "copied"]
    assert [line.name for line in headlines(fewer_results)] == always
    assert {line.name for line in headlines(results)} > {*always}


def test_the_verdict_says_what_is_known_in_one_sentence(results, fewer_results):
    assert verdict(results) == (
        "It has gone 75% of the way from counting 5-grams to the best prediction possible; "
        "50% of its texts contradict nothing, and 25% are copied."
    )
    assert verdict(fewer_results) == (
        "It is as unsure of the next token as if 7.4 were equally likely; 25% of its texts are copied."
    )


@pytest.mark.parametrize("bits, gap, said", [
    (1.0, None, "It needs 38% fewer bits for unseen text than counting 5-grams does;"),
    (1.7, None, "It predicts unseen text no better than counting 5-grams does;"),
    (1.7, -0.1, "It predicts unseen text no better than counting 5-grams does;"),
])  # fmt: skip
def test_beside_counting_the_verdict_does_not_flatter(results, bits, gap, said):
    evaluation = results.facts.eval.model_copy(update={"bits_per_byte": bits, "ngram_gap_closed": gap})
    assert verdict(results._replace(facts=results.facts._replace(eval=evaluation))).startswith(said)


def test_a_model_that_copies_nothing_is_said_to(results):
    quality = results.samples.model_copy(update={"copy_rate": 0.0})
    assert verdict(results._replace(samples=quality)).endswith("contradict nothing, and none is copied.")


@pytest.mark.parametrize("origin, expected", [
    ({"source": "synthetic: stories", "license": "MIT"}, "MIT, the project’s own"),
    ({"source": "hub", "name": "roneneldan/TinyStories", "license": "not stated"}, "CDLA-Sharing-1.0"),
    ({"source": "hub", "name": "owner/films", "license": "apache-2.0"}, "apache-2.0"),
    ({"source": "hub", "name": "owner/films", "license": "not stated"}, UNKNOWN_LICENSE),
    ({"source": "files", "license": "as the owner of the files says"}, "as the owner of the files says"),
])  # fmt: skip
def test_a_licence_is_named_where_it_is_known(origin, expected):
    split = {"documents": 1, "bytes": 1}
    assert license_of(CorpusSummary(**origin, train=split, validation=split)) == expected
