//! Machines of a case's own, as far as the network knows them: namespaces joined by a switch.
//!
//! A namespace has no name and is held by a descriptor, so that the kernel takes all of it away when the case ends,
//! however it ends. What a thread starts is in the namespace that the thread is in: processes, sockets, other threads.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// The network of this thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// What one machine sees of the network.
#[derive(Debug)]
struct Namespace(File);

impl Namespace {
    fn new() -> Namespace {
        // On a thread that ends with it: whoever asks stays where it is.
        thread::scope(|scope| {
            let made = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("root can make network namespaces");
                Namespace::own()
            });
            made.join().expect("it was made")
        })
    }

    fn own() -> Namespace {
        Namespace(File::open(OWN).expect("/proc is there"))
    }

    fn enter(&self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET).expect("root can enter it");
    }

    /// Does something there.
    fn within<T>(&self, act: impl FnOnce() -> T) -> T {
        let before = Namespace::own();
        self.enter();
        let done = act();
        before.enter();
        done
    }

    /// What `ip` takes for it.
    fn path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// A machine at the switch.
#[derive(Debug)]
struct Machine {
    name: &'static str,
    namespace: Namespace,
}

/// The machines of a case, and the switch between them.
#[derive(Debug)]
pub struct Network {
    switch: Namespace,
    machines: Vec<Machine>,
}

impl Network {
    /// Machines of these names and addresses, in one network of 24 bits.
    pub fn new(machines: &[(&'static str, &str)]) -> Network {
        let switch = Namespace::new();
        switch.within(|| ip("link add switch type bridge\nlink set switch up\n"));
        let machines = machines.iter().map(|&(name, address)| {
            let namespace = Namespace::new();
            switch.within(|| {
                ip(&format!(
                    "link add {name} type veth peer name eth0 netns {}\nlink set {name} master switch up\n",
                    namespace.path()
                ));
            });
            namespace.within(|| {
                ip(&format!(
                    "link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\n"
                ));
            });
            Machine { name, namespace }
        });
        let machines = machines.collect();
        Network { switch, machines }
    }

    fn machine(&self, name: &str) -> &Machine {
        self.machines
            .iter()
            .find(|machine| machine.name == name)
            .expect("there is such a machine")
    }

    /// Does something on a machine.
    pub fn on<T>(&self, name: &str, act: impl FnOnce() -> T) -> T {
        self.machine(name).namespace.within(act)
    }

    /// Moves this thread to a machine, and with it all that it starts.
    pub fn move_to(&self, name: &str) {
        self.machine(name).namespace.enter();
    }

    /// Sets parameters of a machine's kernel: lines `net.ipv4.NAME = NUMBER`, as sysctl.conf(5) has them, each number
    /// `most` at most.
    pub fn set(&self, name: &str, parameters: &str, most: u32) {
        self.on(name, || {
            for line in parameters.lines().filter(|line| !line.is_empty()) {
                let (parameter, value) = line.split_once(" = ").expect("NAME = NUMBER");
                let value: u32 = value.parse().expect("a number");
                let path = format!("/proc/sys/{}", parameter.replace('.', "/"));
                fs::write(path, value.min(most).to_string()).expect("the network has it");
            }
        });
    }

    /// From now on what is sent to a machine, and what it sends, is lost, and nobody is told: its links are up.
    pub fn cut_off(&self, name: &str) {
        self.switch
            .within(|| ip(&format!("link set {name} nomaster\n")));
    }

    /// Joins it again.
    pub fn join(&self, name: &str) {
        self.switch
            .within(|| ip(&format!("link set {name} master switch\n")));
    }
}

/// Runs commands of ip(8) where this thread is.
#[track_caller]
fn ip(commands: &str) {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ip is installed; tests/run.sh does it");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(commands.as_bytes()).expect("it reads them");
    drop(stdin);
    assert!(
        child.wait().expect("it ends").success(),
        "ip refuses:\n{commands}"
    );
}
