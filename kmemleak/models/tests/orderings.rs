//! The models hold as the sources are, and no `Acquire` or `Release` in the sources can go without a model failing.

use kmemleak_models::models::{self, Protocol};
use kmemleak_models::search::Model;
use kmemleak_models::weakening::{seen_in, weaker, with_instead};

/// What the first model says that doesn't hold.
fn failure(models: &[Model]) -> Option<String> {
    let failure = |model: &Model| Some(format!("{}: {}", model.name, model.search().err()?));
    models.iter().find_map(failure)
}

/// Searches the models, first with the orderings as they are written, and then with each of them weakened in turn.
fn each_ordering_is_needed(protocol: &Protocol) {
    let mut as_written = None;
    let sites = seen_in(|| as_written = failure(protocol.models));
    assert_eq!(as_written, None, "as it is written");
    assert_eq!(
        sites.len(),
        protocol.orderings_in_sources(),
        "the models run all orderings that the sources name; these they run: {sites:?}"
    );
    let mut needless = Vec::new();
    for (site, written) in sites {
        for &instead in weaker(written) {
            if with_instead(site, instead, || failure(protocol.models)).is_none() {
                needless.push(format!("{site}: {written:?} could be {instead:?}"));
            }
        }
    }
    assert!(needless.is_empty(), "{needless:#?}");
}

#[test]
fn names_of_tasks() {
    each_ordering_is_needed(&models::names::PROTOCOL);
}

#[test]
fn marker() {
    each_ordering_is_needed(&models::marker::PROTOCOL);
    for wrong in models::marker::WRONG {
        assert!(
            wrong.search().is_err(),
            "it does not matter if {}",
            wrong.name
        );
    }
}

#[test]
fn depot() {
    each_ordering_is_needed(&models::depot::PROTOCOL);
}
