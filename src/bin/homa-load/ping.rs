//! `homa-load ping`.

use std::error::Error;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use homa::load::apps::{MessageFormat, PingApp, PingConfig};
use homa::load::cp_node::HEADER_BYTES;
use homa::load::ping::{Outcome, Ping};
use homa::node::{Node, stop_on_signals};
use homa::time::Nanos;

use crate::args::{PingArgs, Server};
use crate::observe::Observers;
use crate::{USAGE, WrongArguments, complain, node_config, set_timeout};

/// Exit codes as those of ping(8): 0 if the server has answered, 1 if not, 2 for other trouble.
pub(crate) fn run(args: &PingArgs) -> ExitCode {
    match ping(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(USAGE)
        }
    }
}

fn ping(args: &PingArgs) -> Result<bool, Box<dyn Error>> {
    if args.protocol == MessageFormat::CpNode && (args.size as usize) < HEADER_BYTES {
        return Err(format!("{} bytes are less than a header: use -s 12 or more", args.size).into());
    }
    let wait = Nanos((args.wait * 1e9) as u64);
    let mut config = node_config(&args.node)?;
    set_timeout(&mut config.transport, wait);
    config.validate().map_err(WrongArguments)?;
    let Server(host, port) = args.server.of_homa()?;
    config.check_destination(host).map_err(WrongArguments)?;
    let ping = Ping::new(host, port);
    let settings = PingConfig {
        host,
        port,
        bytes: args.size,
        interval: Nanos((args.interval * 1e9) as u64),
        wait,
        count: args.count,
        format: args.protocol,
    };
    let observers = Observers::new(&args.node.machine)?;
    let mut node = Node::start(&config)?;
    let observed = observers.watch(&node)?;
    stop_on_signals(&node.stop_flag())?;
    let (link, outcomes) = channel();
    print!("{}", ping.header(args.size));
    let shown = std::thread::spawn(move || show(ping, &outcomes));
    let began = Instant::now();
    let ran = node.run(|cx| PingApp::new(cx, settings, link));
    let time = began.elapsed();
    let ping = shown.join().map_err(|_| "the output failed")?;
    ran?;
    print!("{}", ping.summary(time));
    drop(observed);
    node.close()?;
    Ok(ping.is_alive())
}

/// Writes lines until the application is gone.
fn show(mut ping: Ping, outcomes: &Receiver<(u64, Outcome)>) -> Ping {
    for (number, outcome) in outcomes {
        if let Some(line) = ping.line(number, outcome) {
            print!("{line}");
        }
    }
    ping
}
