//! Property tests of async code, which proptest's own runner does not support.

use std::fmt::Debug;

use proptest::{
    strategy::{Strategy, ValueTree as _},
    test_runner::{Config, TestRunner},
};

/// Tests the property with `values` values, and fails the test with the smallest counterexample
/// found. Calls of `holds` must be independent.
pub(crate) async fn holds_for<S: Strategy<Value: Clone + Debug>>(
    strategy: S,
    values: usize,
    mut holds: impl AsyncFnMut(S::Value) -> Result<(), String>,
) {
    let mut runner = TestRunner::new(Config::default());
    for _ in 0..values {
        let mut tree = strategy.new_tree(&mut runner).unwrap();
        let mut smallest = None;
        loop {
            let value = tree.current();
            match holds(value.clone()).await {
                Ok(()) if smallest.is_none() || !tree.complicate() => break,
                Ok(()) => {}
                Err(said) => {
                    smallest = Some((value, said));
                    if !tree.simplify() {
                        break;
                    }
                }
            }
        }
        if let Some((value, said)) = smallest {
            panic!("{said}\nfor {value:#?}");
        }
    }
}
