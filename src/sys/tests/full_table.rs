//! A message that comes when this process can have no more descriptors. Apart from the unit tests, whose limit is theirs.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use preforkd_sys::channel::pair_of_carriers;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};

fn open() -> usize {
    let fds = fs::read_dir("/proc/self/fd").expect("/proc is there");
    fds.count()
}

#[test]
fn the_descriptors_of_a_message_that_is_cut_are_closed() {
    let (ours, theirs) = pair_of_carriers().unwrap();
    let null = File::open("/dev/null").unwrap();
    let before = open();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    for room in [0, 1, 5, 50] {
        theirs.send(b"x", &vec![null.as_fd(); 100]).unwrap();
        let next = File::open("/dev/null").unwrap().as_raw_fd();
        setrlimit(
            Resource::RLIMIT_NOFILE,
            u64::try_from(next).unwrap() + room,
            hard,
        )
        .unwrap();
        let received = ours.try_receive(&mut [0; 8]);
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        assert_eq!(
            received.unwrap_err().kind(),
            std::io::ErrorKind::InvalidData
        );
        assert_eq!(open(), before, "with room for {room}");
    }
}
