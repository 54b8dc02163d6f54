//! Kept connections that no worker holds, looked after until something arrives on them.
//!
//! [`preforkd_sys::parking`] says why. The generations of a pool have one parking place together: whichever looks takes
//! in what a worker parts with, and one that is to leave puts back what it looks after. Where no generation comes after
//! it, it goes on looking until its last worker has gone: what has a request goes to the workers, and the rest is closed,
//! so that the web server looks for somebody else.

use super::Common;
use crate::token::{Token, What};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::{Shutdown, shutdown};
use preforkd_sys::channel::close_without_waiting;
use preforkd_sys::parking::{Arrived, Parking, look_at};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

/// As many are looked after at most; then the one that has been quiet for longest is closed. All of them fit into the
/// channel that they are put back into.
const MOST: usize = 200;

/// Numbers that tokens can tell apart.
const NUMBERS: u64 = 1 << 28;

/// Connections taken in at one time.
const AT_ONCE: usize = 64;

/// Both ends of a parking place, for all generations that have it.
#[derive(Clone, Debug)]
pub struct Place(Rc<Ends>);

#[derive(Debug)]
struct Ends {
    ours: Parking,
    theirs: Parking,
}

impl Drop for Ends {
    /// What still lies in the channel is closed with it, and must not keep the master (see
    /// [`preforkd_sys::channel::Channel::discard`]).
    fn drop(&mut self) {
        self.ours.discard();
        // Workers of the program before may still take these up. Who takes one has its close not wait.
        for _ in 0..self.theirs.waiting() {
            if let Ok(Some(connection)) = self.theirs.take() {
                // There was room for it.
                let _ = self.ours.put(connection.as_fd());
            }
        }
    }
}

impl Place {
    /// A new one.
    ///
    /// # Errors
    /// EMFILE.
    pub fn new() -> io::Result<Self> {
        let (ours, theirs) = preforkd_sys::parking::pair()?;
        Ok(Self::of(ours, theirs))
    }

    /// The one with these ends.
    pub fn of(ours: Parking, theirs: Parking) -> Self {
        Self(Rc::new(Ends { ours, theirs }))
    }

    /// The master's end.
    pub fn ours(&self) -> &Parking {
        &self.0.ours
    }

    /// The workers' end.
    pub fn theirs(&self) -> &Parking {
        &self.0.theirs
    }

    /// Whether it is the same place.
    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Leaves to the workers what has a request, and ends the rest: nobody looks after it any more.
    pub fn give_up(self) {
        for _ in 0..self.ours().waiting() {
            if let Ok(Some(connection)) = self.ours().take() {
                self.pass_or_end(connection);
            }
        }
    }

    /// Hands a connection to the workers if there is something on it, and else ends it. Returns whether they got it.
    fn pass_or_end(&self, connection: OwnedFd) -> bool {
        let passed = look_at(connection.as_fd()) == Arrived::Bytes
            && self.ours().put(connection.as_fd()).is_ok();
        if !passed {
            end(connection);
        }
        passed
    }
}

/// The connections that a pool looks after.
#[derive(Debug)]
pub struct Parked {
    pool: u32,
    place: Place,
    /// The master's end once more: each generation has one in the poll set.
    watched: Parking,
    /// By numbers that grow, so that the first is the oldest.
    connections: BTreeMap<u64, OwnedFd>,
    next: u64,
    /// Nobody comes after this pool's workers.
    ends: bool,
}

impl Parked {
    /// For the pool of this number.
    ///
    /// # Errors
    /// EMFILE; ENOMEM, ENOSPC (epoll_ctl(2)).
    pub fn new(pool: u32, place: Place, common: &Common) -> io::Result<Self> {
        let watched = place.ours().try_clone()?;
        let parked = Self {
            pool,
            place,
            watched,
            connections: BTreeMap::new(),
            next: 0,
            ends: false,
        };
        parked.watch(common)?;
        Ok(parked)
    }

    fn watch(&self, common: &Common) -> nix::Result<()> {
        let token = Token::Pool {
            pool: self.pool,
            what: What::Parking,
        };
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token.into());
        common.epoll.add(&self.watched, event)
    }

    /// Both ends.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// How many wait for a worker to take them up.
    pub fn waiting(&self) -> u32 {
        self.place.theirs().waiting()
    }

    /// Workers have parted with connections. Returns false when one of them has shut their end down for all, so that
    /// nothing will come any more, though somebody comes after them.
    pub fn take_in(&mut self, common: &Common) -> bool {
        for _ in 0..AT_ONCE {
            let connection = match self.watched.take() {
                Ok(Some(connection)) => connection,
                Ok(None) => return true,
                Err(_) => {
                    let _ = common.epoll.delete(&self.watched);
                    return self.ends;
                }
            };
            if self.ends {
                self.place.pass_or_end(connection);
                continue;
            }
            // As many, or as many since then that its number would be another's.
            let too_many = |(&oldest, _): (&u64, _)| {
                self.connections.len() == MOST || oldest + NUMBERS == self.next
            };
            if self.connections.first_key_value().is_some_and(too_many)
                && let Some((_, oldest)) = self.connections.pop_first()
            {
                let _ = common.epoll.delete(&oldest);
                end(oldest);
            }
            let token = Token::Pool {
                pool: self.pool,
                what: What::Parked {
                    number: (self.next % NUMBERS) as u32,
                },
            };
            let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
            // Fails for what is no connection.
            if common
                .epoll
                .add(&connection, EpollEvent::new(events, token.into()))
                .is_ok()
            {
                self.connections.insert(self.next, connection);
                self.next += 1;
            }
        }
        true
    }

    /// Something has arrived on a connection, which goes to the workers, or it has ended. Returns whether the workers got
    /// it.
    pub fn ready(&mut self, number: u32, common: &Common) -> bool {
        // Of all that have had the number, the last: the others have gone.
        let Some(last) = self.next.checked_sub(1) else {
            return false;
        };
        let since = last.wrapping_sub(number.into()) % NUMBERS;
        let Some(connection) = self.connections.remove(&last.wrapping_sub(since)) else {
            return false;
        };
        let _ = common.epoll.delete(&connection);
        // What wakes the master and has nothing in it is none, either.
        self.place.pass_or_end(connection)
    }

    /// Puts all connections back to where they came from, for whoever looks after them next: another generation, or
    /// another program.
    pub fn put_back(&mut self, common: &Common) {
        for connection in std::mem::take(&mut self.connections).into_values() {
            let _ = common.epoll.delete(&connection);
            if self.place.theirs().put(connection.as_fd()).is_err() {
                end(connection);
            }
        }
    }

    /// Looks after none any more, since another generation does.
    pub fn leave(&mut self, common: &Common) {
        // Closing would not end that while the other has it as well.
        let _ = common.epoll.delete(&self.watched);
        self.put_back(common);
    }

    /// Keeps none any more, since nobody comes after this pool's workers: those that are looked after, and those that the
    /// workers still part with, go to them if a request has come, and are closed if none has.
    pub fn end(&mut self, common: &Common) {
        self.ends = true;
        // A generation after it may have looked after them, and has to go as well. Else it is watched already.
        let _ = self.watch(common);
        for connection in std::mem::take(&mut self.connections).into_values() {
            let _ = common.epoll.delete(&connection);
            self.place.pass_or_end(connection);
        }
    }
}

/// Ends a connection for everybody who holds it: a child that the application forked, say.
fn end(connection: OwnedFd) {
    // The peer may have left, which is as good.
    let _ = shutdown(connection.as_raw_fd(), Shutdown::Both);
    // Whoever held it may have changed that since it came.
    close_without_waiting(&connection);
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::libc;
    use nix::sys::epoll::{Epoll, EpollCreateFlags};
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
    use preforkd_sys::queue::Gauge;
    use std::io::{IoSlice, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    fn looked_after(next: u64) -> (Common, Parked) {
        let common = Common {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap(),
            gauge: Gauge::new(),
            extension: None,
            preload: None,
            notes: false,
        };
        let mut parked = Parked::new(7, Place::new().unwrap(), &common).unwrap();
        parked.next = next;
        (common, parked)
    }

    fn park(parked: &mut Parked, common: &Common) -> UnixStream {
        let (peer, connection) = UnixStream::pair().unwrap();
        parked.place().theirs().put(connection.as_fd()).unwrap();
        drop(connection);
        assert!(parked.take_in(common));
        peer
    }

    /// The number in what the poll set says of the connection on which something has come.
    fn number_of_ready(common: &Common) -> u32 {
        let mut events = [EpollEvent::empty(); 4];
        let count = common.epoll.wait(&mut events, 0u8).unwrap();
        assert_eq!(count, 1);
        let Token::Pool {
            pool: 7,
            what: What::Parked { number },
        } = Token::from(events[0].data())
        else {
            panic!("{:?}", Token::from(events[0].data()));
        };
        number
    }

    #[test]
    fn numbers_that_begin_anew_are_no_older_ones() {
        let (common, mut parked) = looked_after(2 * NUMBERS - 2);
        let mut peers: Vec<UnixStream> = (0..4).map(|_| park(&mut parked, &common)).collect();
        for (peer, expected) in peers.iter_mut().zip([NUMBERS - 2, NUMBERS - 1, 0, 1]) {
            peer.write_all(b"x").unwrap();
            let number = number_of_ready(&common);
            assert_eq!(u64::from(number), expected);
            assert!(parked.ready(number, &common));
            let passed = parked.place().theirs().take().unwrap().unwrap();
            let mut byte = [0];
            UnixStream::from(passed).read_exact(&mut byte).unwrap();
        }
        assert!(parked.connections.is_empty());
    }

    #[test]
    fn what_has_been_quiet_until_its_number_comes_again_is_closed() {
        let (common, mut parked) = looked_after(0);
        let mut old = park(&mut parked, &common);
        parked.next = NUMBERS;
        let mut new = park(&mut parked, &common);
        assert_eq!(old.read(&mut [0]).unwrap(), 0);
        new.write_all(b"x").unwrap();
        assert!(parked.ready(number_of_ready(&common), &common));
        assert!(!parked.ready(0, &common));
    }

    #[test]
    fn who_has_left_them_to_another_that_ends_as_well_looks_again() {
        let (common, mut parked) = looked_after(0);
        parked.leave(&common);
        parked.end(&common);
        let (_peer, connection) = UnixStream::pair().unwrap();
        parked.place().theirs().put(connection.as_fd()).unwrap();
        let mut events = [EpollEvent::empty(); 4];
        assert_eq!(common.epoll.wait(&mut events, 0u8).unwrap(), 1);
    }

    /// A connection whose peer takes nothing, which has the last close wait for that, and the peer.
    fn lingering() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sent = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        sent.set_nonblocking(true).unwrap();
        while sent.write(&[0; 1 << 16]).is_ok() {}
        let long = libc::linger {
            l_onoff: 1,
            l_linger: 5,
        };
        setsockopt(&sent, sockopt::Linger, &long).unwrap();
        (sent, listener.accept().unwrap().0)
    }

    #[test]
    fn nobody_waits_for_what_is_left_in_a_place_that_is_given_up() {
        let place = Place::new().unwrap();
        let (in_ours, _peer) = lingering();
        let (in_theirs, _other_peer) = lingering();
        let send = |message: &[u8], fds: &[i32]| {
            let rights = [ControlMessage::ScmRights(fds)];
            let control = if fds.is_empty() { &[][..] } else { &rights };
            let theirs = place.theirs().as_fd().as_raw_fd();
            let parts = [IoSlice::new(message)];
            sendmsg::<()>(theirs, &parts, control, MsgFlags::empty(), None).unwrap();
        };
        for stray in [&[][..], &[6], &[6; 100]] {
            for _ in 0..3 {
                send(stray, &[]);
            }
        }
        send(&[1], &[in_ours.as_raw_fd()]);
        place.ours().put(in_theirs.as_fd()).unwrap();
        drop((in_ours, in_theirs));
        // Some process that the application has started has it still.
        let others = place.theirs().try_clone().unwrap();
        let begun = Instant::now();
        drop(place);
        drop(others);
        assert!(begun.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn what_waits_for_workers_of_others_stays_there() {
        let place = Place::new().unwrap();
        let (_peers, connections): (Vec<_>, Vec<_>) =
            (0..3).map(|_| UnixStream::pair().unwrap()).unzip();
        for connection in &connections {
            place.ours().put(connection.as_fd()).unwrap();
        }
        let others = place.theirs().try_clone().unwrap();
        drop(place);
        for _ in &connections {
            assert!(others.take().unwrap().is_some());
        }
    }

    #[test]
    fn in_the_end_only_what_has_something_on_it_is_passed_on() {
        let (common, mut parked) = looked_after(0);
        let mut quiet = park(&mut parked, &common);
        park(&mut parked, &common).write_all(b"x").unwrap();
        parked.end(&common);
        let mut late = park(&mut parked, &common);
        assert_eq!(parked.waiting(), 1);
        for peer in [&mut quiet, &mut late] {
            assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        }
    }
}
