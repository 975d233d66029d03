//! What the operating system is asked beyond `mio`, through the safe calls of `rustix` where there are any. The only
//! `unsafe` code is here.

use crate::server::{Line, Process};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Connections that may wait to be accepted; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 65_535;

/// After this time without a byte the kernel asks the peer whether it is there, so many times, at this
/// distance: one that vanished without a word while nothing was sent to it is found within two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_COUNT: u32 = 4;

/// A listening socket. What is set here once, accepted sockets inherit on Linux: `TCP_NODELAY`, keep-alive
/// probes, and how long what was sent may stay unacknowledged (`unacknowledged`) before the peer is given up.
pub fn listen(address: SocketAddr, unacknowledged: Duration) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    prepare(&socket, unacknowledged)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Sets what accepted sockets inherit.
fn prepare(socket: impl AsFd, unacknowledged: Duration) -> io::Result<()> {
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_COUNT)?;
    give_up_after(socket, unacknowledged)
}

/// Sets how long what is sent to sockets that are accepted from now on may stay unacknowledged.
pub fn give_up_after(socket: impl AsFd, unacknowledged: Duration) -> io::Result<()> {
    let millis = u32::try_from(unacknowledged.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(socket, millis)?)
}

/// The listening sockets that the service manager has opened for this process, with their names. To be called once.
#[allow(unsafe_code)]
pub fn inherited(unacknowledged: Duration) -> io::Result<Vec<(String, TcpListener)>> {
    let mut listeners = Vec::new();
    for (descriptor, name) in sd_notify::listen_fds_with_names()? {
        // SAFETY: the service manager gave us this descriptor (LISTEN_PID says so), and nobody else has taken it.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        // It fails for what is no TCP socket.
        listener.local_addr()?;
        prepare(&listener, unacknowledged)?;
        listeners.push((name, listener));
    }
    Ok(listeners)
}

/// Raises the limit of open descriptors as far as the system allows and returns it.
pub fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_err() {
        return limit.current.unwrap_or(u64::MAX);
    }
    limit.maximum.unwrap_or(u64::MAX)
}

/// What the process takes, of which `virtual_bytes` are known.
pub fn process(virtual_bytes: usize) -> Process {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Process {
        virtual_bytes: virtual_bytes as u64,
        cpu_us: cpu.tv_sec as u64 * 1_000_000 + cpu.tv_nsec as u64 / 1000,
        descriptors: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        // The size of this directory is how many entries it has.
        open_descriptors: fs::metadata("/proc/self/fd").map_or(0, |found| found.len()),
        sent_bytes: 0,
    }
}

/// What the kernel knows of a connection to `peer`: tcp(7), `TCP_INFO`.
#[allow(unsafe_code)]
pub fn line(socket: impl AsFd, peer: SocketAddr) -> Option<Line> {
    // `struct tcp_info` of <linux/tcp.h>: eight bytes, and then numbers of 32 bits. It only grows, at its end.
    let mut info = [0u32; 64];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the descriptor is borrowed for the call, which writes at most `length` bytes to `info`, that many it has.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    (failed == 0).then_some(Line {
        peer,
        unacknowledged: info[6],
        sent_ms: info[11],
        received_ms: info[13],
        round_trip_us: info[17],
        retransmitted: info[25],
        unsent_bytes: info[36],
    })
}

/// Has the kernel take no more of what is written once so many bytes of it have not been sent; what is on its way does not
/// count: tcp(7), `TCP_NOTSENT_LOWAT`.
#[allow(unsafe_code)]
pub fn bound_unsent(socket: impl AsFd, bytes: u32) {
    // SAFETY: the descriptor and the number are borrowed for the call, which reads as many bytes as the number has. It fails
    // only where the kernel does not know the option: then more waits there, as before.
    unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        );
    }
}

/// Gives memory that is free back to the system, from between what is in use, too: see malloc_trim(3). Other libraries
/// than glibc do that as they see fit.
#[allow(unsafe_code)]
pub fn give_back() {
    // SAFETY: it takes no pointer, may be called by any thread, and touches nothing that is allocated.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
