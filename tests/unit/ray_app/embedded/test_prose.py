"""Docstrings as people write them, and the sentences that a reader would pick from them."""

import pytest

from ray_app.embedded.prose import MAX_WORDS, is_prose, prose_runs, split_sentences

NUMPYDOC = """
    Compute the weighted mean of an array.

    The weights are scaled so that they add up to one. Entries
    with weight zero are never read.

    Parameters
    ----------
    values : array_like
        Numbers whose mean is wanted by the caller.
    axis : int, optional
        Axis along which the mean is taken. The default is the last one.

    Returns
    -------
    mean : ndarray
        The mean along the given axis.

    See Also
    --------
    median : This sentence stands in a list of links.

    Notes
    -----
    See :func:`numpy.sum` and ``add`` for the *exact* order of the additions [1]_.

    .. math:: \\sum_i w_i x_i

    References
    ----------
    .. [1] A. Author, The sum of all things, Journal of Sums, 2001.

    Examples
    --------
    An empty array has no mean at all.

    >>> mean([1, 2])
    The output of this line is not prose.

    Weights may be given as a list of numbers.
    """


def test_numpydoc_gives_its_prose_in_order():
    assert prose_runs(NUMPYDOC) == [
        [
            "Compute the weighted mean of an array.",
            "The weights are scaled so that they add up to one.",
            "Entries with weight zero are never read.",
        ],
        ["Numbers whose mean is wanted by the caller."],
        ["Axis along which the mean is taken.", "The default is the last one."],
        ["The mean along the given axis."],
        ["See sum and add for the exact order of the additions."],
        ["An empty array has no mean at all."],
        ["Weights may be given as a list of numbers."],
    ]


def test_google_style_arguments_and_code_are_left_out():
    docstring = """Open the file and read all of its lines.

    Args:
        path: where the file is; this is no sentence.

    Example:
        print(read(path)) This line stands in the block of an example.

    The file is closed again in every case.
    """
    assert prose_runs(docstring) == [
        ["Open the file and read all of its lines."],
        ["The file is closed again in every case."],
    ]


def test_sphinx_fields_lists_tables_and_literal_blocks_are_left_out():
    docstring = """Send the message to every client that listens.

    :param message: text
    :returns: Nothing that a caller could ever use.

    - This item of a list is not taken at all.
      Its second line is not taken either, of course.

    ====== ======
    Name   Value of the thing in this table.
    ====== ======

    The following code shows how to send it::

        This looks like a sentence but is code.

    .. versionadded:: 1.2
       This was added in a later version of it.

    Clients that do not listen get it later.
    """
    assert prose_runs(docstring) == [
        ["Send the message to every client that listens."],
        ["Clients that do not listen get it later."],
    ]


def test_a_note_is_prose():
    assert prose_runs(".. note::\n   The order of the rows is not kept here.\n") == [
        ["The order of the rows is not kept here."]
    ]


def test_a_sentence_left_out_ends_the_run():
    text = "The first sentence is a good one. The value X = Y is none of them. The third sentence is good again."
    assert prose_runs(text) == [["The first sentence is a good one."], ["The third sentence is good again."]]


@pytest.mark.parametrize("docstring", ["", "   \n ", "short", ">>> f(1)\n2", "=====\n-----\n", "::", ".. note::", ":"])
def test_docstrings_without_prose_give_nothing(docstring):
    assert prose_runs(docstring) == []


def test_abbreviations_do_not_end_a_sentence():
    text = "Use any norm, e.g. The Euclidean one. It is cheap, cf. Smith et al. Nothing else is."
    assert split_sentences(text) == [
        "Use any norm, e.g. The Euclidean one.",
        "It is cheap, cf. Smith et al. Nothing else is.",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "Too short this.",
        "lower case at the start is a fragment.",
        "No full stop at the end of this",
        "The value of `x` still has its markup.",
        "See https://example.org for more of the details.",
        "The formula x_i is not a plain word here.",
        "If a = b then the result is zero.",
        "A 1 2 3 4 5 6 has hardly any words.",
        "Größe is not plain English in this sense.",
        " ".join(["Word"] * MAX_WORDS) + " word.",
    ],
)
def test_what_is_not_prose(sentence):
    assert not is_prose(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "Return the number of rows (or columns).",
        "Is this a question that is asked?",
        "It's the user's own, well-known choice.",
    ],
)
def test_what_is_prose(sentence):
    assert is_prose(sentence)
