//! Walks every combination of bounded choices, without a list of them.
//!
//! Each choice is a digit of a number that is counted up: a pass through the body of `while every.more()` reads the
//! digits in the order in which it asks, and may ask differently depending on what it was given before.

/// See the module.
#[derive(Default)]
pub struct Every {
    /// Of each choice of this pass: which was taken, and of how many.
    digits: Vec<(usize, usize)>,
    asked: usize,
    begun: bool,
}

impl Every {
    /// Goes on to the next combination; false when all have been.
    pub fn more(&mut self) -> bool {
        assert_eq!(
            self.asked,
            self.digits.len(),
            "a pass asked for less than the one before, for the same answers"
        );
        self.asked = 0;
        if !std::mem::replace(&mut self.begun, true) {
            return true;
        }
        while let Some((taken, of)) = self.digits.pop() {
            if taken + 1 < of {
                self.digits.push((taken + 1, of));
                return true;
            }
        }
        false
    }

    /// One of these, each once for all that was asked before.
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        if self.asked == self.digits.len() {
            self.digits.push((0, choices.len()));
        }
        let (taken, of) = self.digits[self.asked];
        assert_eq!(of, choices.len(), "what is offered depends only on what was answered before");
        self.asked += 1;
        choices[taken]
    }

    /// Yes and no.
    pub fn flag(&mut self) -> bool {
        self.of(&[false, true])
    }
}

#[test]
fn every_combination_comes_once() {
    let (mut every, mut seen) = (Every::default(), Vec::new());
    while every.more() {
        let first = every.of(&[1, 2, 3]);
        let second = if first == 2 { every.of(&[7]) } else { every.of(&[8, 9]) };
        seen.push((first, second));
    }
    assert_eq!(seen, [(1, 8), (1, 9), (2, 7), (3, 8), (3, 9)]);
}
