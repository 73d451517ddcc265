//! A scheduler that runs all schedules with a limited number of preemptions.

use std::cell::Cell;
use std::rc::Rc;

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

/// Runs each task until it has to wait, with at most `preemptions_most` preemptions per run, and goes through all
/// schedules of that kind. Two preemptions suffice for most bugs of concurrency. A choice of the next task after one
/// has blocked or ended is not a preemption, and all of these choices are explored.
#[derive(Debug)]
pub struct Bounded {
    preemptions_most: usize,
    schedules_left: usize,
    /// The choices of this run. The run before has fixed the first of them.
    choices: Vec<Choice>,
    steps: usize,
    preemptions: usize,
    begun: bool,
    /// Set when no schedule is left.
    exhausted: Rc<Cell<bool>>,
}

#[derive(Debug)]
struct Choice {
    options: usize,
    taken: usize,
}

impl Bounded {
    /// Returns the scheduler, and the flag that it sets when it has run all schedules.
    pub fn new(preemptions_most: usize, schedules_most: usize) -> (Self, Rc<Cell<bool>>) {
        let exhausted = Rc::new(Cell::new(false));
        let bounded = Bounded {
            preemptions_most,
            schedules_left: schedules_most,
            choices: Vec::new(),
            steps: 0,
            preemptions: 0,
            begun: false,
            exhausted: Rc::clone(&exhausted),
        };
        (bounded, exhausted)
    }
}

impl Scheduler for Bounded {
    fn new_execution(&mut self) -> Option<Schedule> {
        if self.schedules_left == 0 {
            return None;
        }
        if self.begun {
            while self.choices.last().is_some_and(|last| last.taken + 1 == last.options) {
                self.choices.pop();
            }
            let Some(last) = self.choices.last_mut() else {
                self.exhausted.set(true);
                return None;
            };
            last.taken += 1;
        }
        self.begun = true;
        self.schedules_left -= 1;
        (self.steps, self.preemptions) = (0, 0);
        Some(Schedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        _is_yielding: bool,
    ) -> Option<TaskId> {
        let stays = runnable.iter().position(|task| Some(task.id()) == current);
        let options = match stays {
            Some(_) if self.preemptions == self.preemptions_most => 1,
            Some(_) | None => runnable.len(),
        };
        let taken = if options == 1 {
            0
        } else {
            if self.steps == self.choices.len() {
                self.choices.push(Choice { options, taken: 0 });
            }
            let choice = &self.choices[self.steps];
            assert_eq!(choice.options, options, "the same choices lead to the same place");
            self.steps += 1;
            choice.taken
        };
        // The first option is to let the current task continue.
        let index = match stays {
            Some(stays) if taken == 0 => stays,
            Some(stays) => {
                self.preemptions += 1;
                if taken <= stays { taken - 1 } else { taken }
            }
            None => taken,
        };
        Some(runnable[index].id())
    }

    fn next_u64(&mut self) -> u64 {
        unreachable!("no model asks for a random number")
    }
}
