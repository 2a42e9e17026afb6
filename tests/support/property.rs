//! Properties of what has to be waited for, which proptest's own runner can't.

use std::fmt::Debug;

use proptest::{
    strategy::{Strategy, ValueTree as _},
    test_runner::{Config, TestRunner},
};

/// Looks at so many values whether the property holds, and fails the case with the smallest that
/// was found for which it does not. Each call of `holds` has to stand by itself.
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
