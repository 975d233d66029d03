//! wrk, whose scripts are in `benches/wrk`.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::server::Server;

pub fn is_there() -> bool {
    Command::new("wrk").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// The server's CPU time per request, microseconds, over 64 kept connections.
pub fn cpu_per_request(server: &Server, script: &str, path: &str, seconds: u32) -> io::Result<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/wrk/{script}.lua"));
    let meter = server.meter()?;
    let before = meter.cpu()?.total_us;
    let output = Command::new("wrk")
        .args(["-t1", "-c64", &format!("-d{seconds}s"), "-s"])
        .arg(script)
        .arg(format!("http://{}{path}", server.address))
        .output()?;
    let used = meter.cpu()?.total_us - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let requests = text.lines().find_map(|line| line.strip_prefix("requests: ")?.trim().parse::<f64>().ok());
    match requests.filter(|&requests| output.status.success() && requests > 0.0) {
        Some(requests) => Ok(used / requests),
        None => Err(io::Error::other(format!("wrk against {}{path}: {text}", server.name))),
    }
}
