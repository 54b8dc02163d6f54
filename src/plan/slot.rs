//! The life of one worker: a table of states and events.
//!
//! ```text
//!            ask            ready           turns busy
//!   Vacant ──────▶ Starting ──────▶ Idle ◀──────────────▶ Busy
//!      ▲               │              │    turns idle       │
//!      │ gone          │ retire       │ retire              │ retire
//!      │               └──────────────┴──▶ Retiring ◀───────┘
//!      └──────────────────── from any state; overdue: ask, signal, kill
//! ```
//!
//! Everything that can happen in every state is written in [`next`], and nowhere else.

/// What is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Vacant,
    /// A worker was asked for and has not said that it accepts.
    Starting,
    /// A worker that waits.
    Idle,
    /// A worker that holds a request.
    Busy,
    /// A worker that was asked to leave.
    Retiring,
    /// A worker that was sent a deadly signal.
    Killed,
}

/// What can happen to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker is wanted here.
    Ask,
    /// The worker could not be forked.
    SpawnFailed,
    /// The worker accepts.
    Ready,
    /// It waits.
    TurnedIdle,
    /// It holds a request.
    TurnedBusy,
    /// It is not wanted any more.
    Retire,
    /// It is to end at once.
    Terminate,
    /// The deadline of its state has passed.
    Overdue,
    /// It is dead.
    Gone,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Fork a worker.
    Spawn,
    /// Ask it to leave.
    AskToLeave,
    /// Send SIGTERM.
    SignalTerm,
    /// Send SIGKILL.
    SignalKill,
    /// It never became ready.
    StartFailed,
    /// It ended although nobody had asked it to.
    Lost,
    /// It ended as it was told to.
    Left,
}

/// The state after `event` in `state`, and what is to be done.
///
/// What cannot happen to a slot in a state (a worker that gets ready in a vacant slot: a message that was under way
/// when it died) changes nothing.
#[must_use]
pub fn next(state: State, event: Event) -> (State, Effect) {
    use Event as E;
    use State as S;
    match (state, event) {
        (S::Vacant, E::Ask) => (S::Starting, Effect::Spawn),
        (
            S::Vacant,
            E::SpawnFailed
            | E::Ready
            | E::TurnedIdle
            | E::TurnedBusy
            | E::Retire
            | E::Terminate
            | E::Overdue
            | E::Gone,
        ) => (S::Vacant, Effect::None),

        (S::Starting, E::Ask | E::TurnedIdle | E::TurnedBusy) => (S::Starting, Effect::None),
        (S::Starting, E::SpawnFailed | E::Gone) => (S::Vacant, Effect::StartFailed),
        (S::Starting, E::Ready) => (S::Idle, Effect::None),
        (S::Starting, E::Retire) => (S::Retiring, Effect::AskToLeave),
        (S::Starting, E::Terminate) => (S::Killed, Effect::SignalTerm),
        (S::Starting, E::Overdue) => (S::Killed, Effect::SignalKill),

        (S::Idle, E::Ask | E::SpawnFailed | E::Ready | E::TurnedIdle | E::Overdue) => {
            (S::Idle, Effect::None)
        }
        (S::Idle, E::TurnedBusy) => (S::Busy, Effect::None),
        (S::Idle, E::Retire) => (S::Retiring, Effect::AskToLeave),
        (S::Idle, E::Terminate) => (S::Killed, Effect::SignalTerm),
        (S::Idle, E::Gone) => (S::Vacant, Effect::Lost),

        (S::Busy, E::Ask | E::SpawnFailed | E::Ready | E::TurnedBusy) => (S::Busy, Effect::None),
        (S::Busy, E::TurnedIdle) => (S::Idle, Effect::None),
        (S::Busy, E::Retire) => (S::Retiring, Effect::AskToLeave),
        (S::Busy, E::Terminate) => (S::Killed, Effect::SignalTerm),
        (S::Busy, E::Overdue) => (S::Killed, Effect::SignalKill),
        (S::Busy, E::Gone) => (S::Vacant, Effect::Lost),

        (S::Retiring, E::Ask | E::Ready | E::TurnedIdle | E::TurnedBusy | E::Retire) => {
            (S::Retiring, Effect::None)
        }
        (S::Retiring, E::Terminate | E::Overdue) => (S::Killed, Effect::SignalTerm),
        // It may have been told to leave before it was forked.
        (S::Retiring, E::SpawnFailed | E::Gone) => (S::Vacant, Effect::Left),

        (
            S::Killed,
            E::Ask | E::Ready | E::TurnedIdle | E::TurnedBusy | E::Retire | E::Terminate,
        ) => (S::Killed, Effect::None),
        (S::Killed, E::Overdue) => (S::Killed, Effect::SignalKill),
        (S::Killed, E::SpawnFailed | E::Gone) => (S::Vacant, Effect::Left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 6] = [
        State::Vacant,
        State::Starting,
        State::Idle,
        State::Busy,
        State::Retiring,
        State::Killed,
    ];
    const EVENTS: [Event; 9] = [
        Event::Ask,
        Event::SpawnFailed,
        Event::Ready,
        Event::TurnedIdle,
        Event::TurnedBusy,
        Event::Retire,
        Event::Terminate,
        Event::Overdue,
        Event::Gone,
    ];

    #[test]
    fn a_dead_worker_always_leaves_its_slot() {
        for state in STATES {
            assert_eq!(next(state, Event::Gone).0, State::Vacant, "{state:?}");
        }
    }

    /// Whatever it has been told meanwhile.
    #[test]
    fn a_worker_that_could_not_be_forked_leaves_its_slot() {
        for state in [State::Starting, State::Retiring, State::Killed] {
            assert_eq!(
                next(state, Event::SpawnFailed).0,
                State::Vacant,
                "{state:?}"
            );
        }
    }

    #[test]
    fn only_a_vacant_slot_is_filled_and_only_when_asked() {
        for state in STATES {
            for event in EVENTS {
                let spawns = next(state, event).1 == Effect::Spawn;
                assert_eq!(
                    spawns,
                    (state, event) == (State::Vacant, Event::Ask),
                    "{state:?} {event:?}"
                );
            }
        }
    }

    #[test]
    fn who_is_leaving_never_comes_back_to_serve() {
        for state in [State::Retiring, State::Killed] {
            for event in EVENTS {
                let after = next(state, event).0;
                assert!(
                    !matches!(after, State::Starting | State::Idle | State::Busy),
                    "{state:?} {event:?}"
                );
            }
        }
    }

    #[test]
    fn deadlines_escalate_until_the_worker_is_gone() {
        let (state, effect) = next(State::Retiring, Event::Overdue);
        assert_eq!((state, effect), (State::Killed, Effect::SignalTerm));
        let (state, effect) = next(state, Event::Overdue);
        assert_eq!((state, effect), (State::Killed, Effect::SignalKill));
    }
}
