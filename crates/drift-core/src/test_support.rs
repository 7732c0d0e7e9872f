//! How often the cases of a property test reach what the property is about.
//!
//! A property such as "whenever `a`, then `b`" passes without a test when the drawn values never give `a`.

use std::cell::RefCell;

/// The interesting cases of one property, by name, each with the smallest share of cases in percent that must
/// reach it. Dropped after the property has passed, it prints the shares and fails if one is too small.
///
/// Keep a floor at a third of the usual share or below: 256 cases vary.
#[must_use]
pub struct Reached {
    cases: RefCell<Vec<Case>>,
}

struct Case {
    name: &'static str,
    floor: u32,
    reached: u32,
    drawn: u32,
}

impl Reached {
    /// Nothing is reached yet.
    pub fn new<const N: usize>(floors: [(&'static str, u32); N]) -> Self {
        let cases = floors.map(|(name, floor)| Case { name, floor, reached: 0, drawn: 0 });
        Self { cases: RefCell::new(cases.into()) }
    }

    /// Counts one drawn case, which has reached `name` if `is_reached`; gives `is_reached` back.
    pub fn case(&self, name: &str, is_reached: bool) -> bool {
        let mut cases = self.cases.borrow_mut();
        let case = cases.iter_mut().find(|case| case.name == name).expect("a case with a floor");
        case.drawn += 1;
        case.reached += u32::from(is_reached);
        is_reached
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let cases = self.cases.borrow();
        for Case { name, reached, drawn, .. } in cases.iter() {
            println!("{name}: reached in {reached} of {drawn} cases");
        }
        for Case { name, floor, reached, drawn } in cases.iter() {
            assert!(
                *drawn > 0 && reached * 100 >= floor * drawn,
                "{name}: reached in {reached} of {drawn} cases, which is below {floor}%"
            );
        }
    }
}

mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "low: reached in 1 of 4 cases, which is below 30%")]
    fn shares_below_the_floor_fail() {
        let reached = Reached::new([("all", 100), ("low", 30)]);
        for n in 0..4 {
            assert!(reached.case("all", true));
            reached.case("low", n == 0);
        }
    }

    #[test]
    #[should_panic(expected = "never: reached in 0 of 0 cases")]
    fn cases_that_are_never_drawn_fail() {
        drop(Reached::new([("never", 0)]));
    }
}
