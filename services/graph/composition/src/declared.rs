//! Latency from a declared order of calls, where there are no traces.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::bounds::{Bounds, Dependence};
use crate::{Distribution, Draws, Error};

/// Deepest order that is walked.
const DEPTH_MAX: usize = 64;

/// In what order parts are waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// One part, by its place among the distributions.
    Part(usize),
    /// One after the other.
    InSequence(Vec<Order>),
    /// All at once, until the slowest is done.
    AtOnce(Vec<Order>),
}

/// An order whose parts all have a distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    order: Order,
    parts: Vec<Distribution>,
}

impl Declared {
    /// Joins an order with the distributions of its parts; one part named twice is two calls.
    ///
    /// # Errors
    /// Refuses a part without a distribution, a sequence or a group of nothing, and more than 64 levels.
    pub fn new(order: Order, parts: Vec<Distribution>) -> Result<Self, Error> {
        check(&order, parts.len())?;
        Ok(Self { order, parts })
    }

    /// What every quantile lies between, given what is known of the dependence.
    #[must_use]
    pub fn bounds(&self, dependence: Dependence) -> Bounds {
        let of_parts: Vec<Bounds> = self.parts.iter().map(Bounds::of).collect();
        let mut parts = |index: usize| of_parts[index].clone();
        fold(&self.order, &mut parts, &|a, b| a.in_sequence(&b, dependence), &|a, b| a.at_once(&b, dependence))
    }

    /// The distribution if all calls were independent.
    #[must_use]
    pub fn independent(&self, draws: Draws) -> Distribution {
        let mut random = ChaCha8Rng::seed_from_u64(draws.seed);
        let mut part = |index: usize| self.parts[index].quantile(random.random());
        let one = |_| fold(&self.order, &mut part, &|a, b| a + b, &f64::max);
        Distribution::measured((0..draws.count.max(1)).map(one).collect())
    }

    /// The quantile in milliseconds if all calls were slow together.
    #[must_use]
    pub fn comonotone(&self, quantile: f64) -> f64 {
        fold(&self.order, &mut |index| self.parts[index].quantile(quantile), &|a, b| a + b, &f64::max)
    }
}

/// Walks level by level, so that an order of any depth is refused rather than overflowing the stack.
fn check(order: &Order, part_count: usize) -> Result<(), Error> {
    let mut level = vec![order];
    for _ in 0..DEPTH_MAX {
        let mut next = Vec::new();
        for order in level {
            match order {
                Order::Part(index) if *index >= part_count => {
                    return Err(Error::UnknownPart { index: *index, part_count });
                }
                Order::Part(_) => {}
                Order::InSequence(orders) | Order::AtOnce(orders) if orders.is_empty() => {
                    return Err(Error::Empty { field: "order" });
                }
                Order::InSequence(orders) | Order::AtOnce(orders) => next.extend(orders),
            }
        }
        if next.is_empty() {
            return Ok(());
        }
        level = next;
    }
    Err(Error::TooDeep { limit: DEPTH_MAX })
}

fn fold<T>(
    order: &Order,
    part: &mut impl FnMut(usize) -> T,
    in_sequence: &impl Fn(T, T) -> T,
    at_once: &impl Fn(T, T) -> T,
) -> T {
    let (orders, join): (&[Order], &dyn Fn(T, T) -> T) = match order {
        Order::Part(index) => return part(*index),
        Order::InSequence(orders) => (orders, in_sequence),
        Order::AtOnce(orders) => (orders, at_once),
    };
    let first = fold(&orders[0], part, in_sequence, at_once);
    orders[1..].iter().fold(first, |so_far, next| join(so_far, fold(next, part, in_sequence, at_once)))
}
