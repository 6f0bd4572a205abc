use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::thread::JoinHandle;

use super::*;
use crate::load::cluster::agent::{AgentError, AgentLink};
use crate::load::cluster::outcome;
use crate::load::report::SideReport;
use crate::load::report::hosts::Served;

const PATIENCE: Duration = Duration::from_secs(60);

fn config(agents: usize) -> ClusterConfig {
    ClusterConfig {
        agents,
        names: Vec::new(),
        pattern: "all-to-all".to_owned(),
        flags: vec!["--workload=w3".to_owned()],
        files: Vec::new(),
        register_timeout: PATIENCE,
        setup_timeout: PATIENCE,
        silence: PATIENCE,
    }
}

/// A coordinator on a thread of its own.
struct Running {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    said: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<Result<Outcome, ClusterError>>,
}

fn start(config: ClusterConfig) -> Running {
    let coordinator = Coordinator::bind("127.0.0.1:0".parse().unwrap(), config).unwrap();
    let address = coordinator.local_addr().unwrap();
    let stop: Arc<AtomicBool> = Arc::default();
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let (flag, lines) = (Arc::clone(&stop), Arc::clone(&said));
    let thread = thread::spawn(move || {
        coordinator.run(&flag, &mut |note| {
            if let Note::Said(text) = note {
                lines.lock().unwrap().push(text);
            }
        })
    });
    Running { address, stop, said, thread }
}

impl Running {
    fn end(self) -> (Result<Outcome, ClusterError>, Vec<String>) {
        let outcome = self.thread.join().unwrap();
        (outcome, self.said.lock().unwrap().clone())
    }

    /// An agent that has a place in the cluster.
    fn agent(&self, number: u8, rank: Option<u32>) -> AgentLink {
        let agent = self.connect(number, rank);
        let begins = format!("n{number} (");
        while !self.said.lock().unwrap().iter().any(|line| line.starts_with(&begins)) {
            thread::sleep(Duration::from_millis(1));
        }
        agent
    }

    /// An agent that has introduced itself.
    fn connect(&self, number: u8, rank: Option<u32>) -> AgentLink {
        let hello = hello(&format!("n{number}"), rank, address(number), 4000);
        let stop = AtomicBool::new(false);
        AgentLink::connect(&self.address.to_string(), &hello, PATIENCE, &stop).unwrap()
    }

    /// A connection that may say anything.
    fn stranger(&self, says: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(says.as_bytes()).unwrap();
        stream
    }
}

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

fn assignment(agent: &AgentLink) -> Assignment {
    agent.assignment(&AtomicBool::new(false)).unwrap()
}

fn order(agent: &AgentLink) -> FromCoordinator {
    agent.next(PATIENCE).expect("an order comes").expect("the coordinator is there")
}

/// Leads agents up to the start of the load.
fn set_up(agents: &[AgentLink]) {
    for agent in agents {
        assignment(agent);
        agent.send(&FromAgent::Up).unwrap();
    }
    for agent in agents {
        assert_eq!(order(agent), FromCoordinator::Greet);
        agent.send(&FromAgent::Ready).unwrap();
    }
    for agent in agents {
        assert_eq!(order(agent), FromCoordinator::Start);
    }
}

fn result(requests: u64) -> FromAgent {
    let served = Served { requests, ..Served::default() };
    let (server, counters) = (SideReport::default(), BTreeMap::new());
    FromAgent::Result(Box::new(HostResult { report: None, served, server, counters }))
}

/// The end of an agent that has sent its load.
fn finish(agents: Vec<AgentLink>) {
    for agent in &agents {
        agent.send(&FromAgent::Finished).unwrap();
    }
    for (number, agent) in agents.into_iter().enumerate() {
        assert_eq!(order(&agent), FromCoordinator::Stop);
        agent.close(&result(number as u64)).unwrap();
    }
}

fn names(outcome: &Outcome) -> Vec<&str> {
    outcome.hosts.iter().map(|host| host.host.name.as_str()).collect()
}

#[test]
fn agents_are_led_through_a_run() {
    let running = start(config(3));
    let agents = vec![running.agent(3, None), running.agent(1, None), running.agent(2, Some(0))];
    let assigned = assignment(&agents[0]);
    let hosts: Vec<_> = assigned.hosts.iter().map(|host| (&*host.name, host.address)).collect();
    assert_eq!(hosts, [("n2", address(2)), ("n1", address(1)), ("n3", address(3))]);
    assert_eq!((assigned.rank, &assigned.flags[..]), (2, &["--workload=w3".to_owned()][..]));
    for agent in &agents[1..] {
        assert!(assignment(agent).rank < 2);
    }
    for agent in &agents {
        agent.send(&FromAgent::Up).unwrap();
    }
    for agent in &agents {
        assert_eq!(order(agent), FromCoordinator::Greet);
    }
    // Two of three: nothing begins yet.
    for agent in &agents[1..] {
        agent.send(&FromAgent::Ready).unwrap();
    }
    assert!(agents[1].next(Duration::from_millis(200)).is_none());
    agents[0].send(&FromAgent::Ready).unwrap();
    for agent in &agents {
        assert_eq!(order(agent), FromCoordinator::Start);
    }
    finish(agents);
    let (outcome, said) = running.end();
    let outcome = outcome.unwrap();
    assert_eq!(names(&outcome), ["n2", "n1", "n3"]);
    let served = |host: &HostOutcome| host.result.as_ref().unwrap().served.requests;
    assert_eq!(outcome.hosts.iter().map(served).collect::<Vec<_>>(), [2, 1, 0]);
    assert!(outcome.hosts.iter().all(|host| host.lost.is_none() && !host.is_early));
    assert!(!outcome.is_interrupted);
    assert!(said.iter().any(|line| line == "all hosts are ready; the load begins"), "{said:?}");
    // Nobody sent anything: there is nothing to report, and that is said.
    assert_eq!(outcome::merged(&outcome, "").unwrap(), None);
    assert!(outcome::trouble(&outcome, None).unwrap().contains("no host has said what it sent"));
}

#[test]
fn an_agent_lost_in_the_load_is_named_and_the_others_finish() {
    let running = start(config(3));
    let mut agents: Vec<_> = (1..=3).map(|number| running.agent(number, None)).collect();
    set_up(&agents);
    drop(agents.remove(1));
    finish(agents);
    let (outcome, said) = running.end();
    let outcome = outcome.unwrap();
    let lost: Vec<_> = outcome.hosts.iter().map(|host| host.lost.as_deref()).collect();
    assert_eq!(lost, [None, Some("connection closed"), None]);
    assert!(outcome.hosts[2].result.is_some());
    assert!(
        said.contains(&"n2 is lost: connection closed; the others go on".to_owned()),
        "{said:?}"
    );
    let trouble = outcome::trouble(&outcome, None).unwrap();
    assert!(trouble.contains("host n2 was lost (connection closed)"), "{trouble}");
}

#[test]
fn an_agent_that_says_nothing_is_lost_after_a_while() {
    let running = start(ClusterConfig { silence: Duration::from_secs(5), ..config(2) });
    let agent = running.agent(1, None);
    let hello = FromAgent::Hello(hello("mute", None, address(9), 4000));
    let mut mute = running.stranger("");
    write_message(&mute, &hello).unwrap();
    assignment(&agent);
    for message in [FromAgent::Up, FromAgent::Ready] {
        agent.send(&message).unwrap();
        write_message(&mute, &message).unwrap_or(());
        // One after the other, as the coordinator asks for them.
        assert!(matches!(order(&agent), FromCoordinator::Greet | FromCoordinator::Start));
    }
    // It stays connected and hears everything, but gives no sign of life.
    agent.send(&FromAgent::Finished).unwrap();
    assert_eq!(order(&agent), FromCoordinator::Stop);
    agent.close(&result(1)).unwrap();
    let (outcome, _) = running.end();
    let lost: Vec<_> = outcome.unwrap().hosts.into_iter().map(|host| host.lost).collect();
    assert_eq!(lost, [Some("nothing heard for 5 s".to_owned()), None]);
    let mut heard = String::new();
    let _ = mute.read_to_string(&mut heard);
    assert!(heard.contains("\"assign\"") && heard.contains("\"start\""), "{heard}");
}

#[test]
fn an_agent_lost_before_the_load_ends_the_run() {
    let running = start(config(2));
    let (stays, leaves) = (running.agent(1, None), running.agent(2, None));
    assignment(&stays);
    assignment(&leaves);
    stays.send(&FromAgent::Up).unwrap();
    leaves.close(&FromAgent::Failed { reason: "no such device".to_owned() }).unwrap();
    let FromCoordinator::Refused { reason } = order(&stays) else { panic!("sent home") };
    assert_eq!(reason, "host n2: no such device; the load was not started");
    let (outcome, _) = running.end();
    assert_eq!(outcome.unwrap_err().to_string(), reason);
}

#[test]
fn an_agent_that_is_late_is_named() {
    let short = Duration::from_secs(3);
    let running = start(ClusterConfig { setup_timeout: short, ..config(2) });
    let agents = [running.agent(1, None), running.agent(2, None)];
    assignment(&agents[0]);
    agents[0].send(&FromAgent::Up).unwrap();
    let (outcome, _) = running.end();
    let error = outcome.unwrap_err().to_string();
    assert!(error.starts_with("host n2: its node did not start in time"), "{error}");
}

#[test]
fn agents_that_leave_before_the_others_come_may_come_back() {
    let running = start(config(2));
    drop(running.agent(1, None));
    let again = loop {
        // The place is free as soon as the coordinator has noticed.
        let again = running.connect(1, None);
        match again.next(Duration::from_millis(300)) {
            None => break again,
            Some(Ok(FromCoordinator::Refused { reason })) => {
                assert!(reason.contains("already"), "{reason}");
            }
            Some(other) => panic!("{other:?}"),
        }
    };
    let agents = [again, running.agent(2, None)];
    assignment(&agents[0]);
    agents[0].send(&FromAgent::Up).unwrap();
    assignment(&agents[1]);
    agents[1].send(&FromAgent::Up).unwrap();
    assert_eq!(order(&agents[0]), FromCoordinator::Greet);
    running.stop.store(true, Ordering::Relaxed);
    assert!(matches!(running.end().0, Err(ClusterError::Interrupted)));
}

#[test]
fn missing_agents_are_counted_and_named() {
    let wait = Duration::from_millis(300);
    let names = ["n1", "n2", "n3"].map(str::to_owned).to_vec();
    let running = start(ClusterConfig { names, register_timeout: wait, ..config(3) });
    let agent = running.agent(2, None);
    let (outcome, _) = running.end();
    let error = outcome.unwrap_err().to_string();
    assert!(error.starts_with("1 of 3 agents came; missing: n1, n3:"), "{error}");
    let refused = agent.assignment(&AtomicBool::new(false)).unwrap_err().to_string();
    assert!(refused.contains("1 of 3 agents came"), "{refused}");
}

#[test]
fn who_does_not_belong_here_is_told_why() {
    let names = ["n1", "n2", "n3"].map(str::to_owned).to_vec();
    let running = start(ClusterConfig { names, ..config(3) });
    let refused = |number, rank, of: IpAddr| {
        let hello = hello(&format!("n{number}"), rank, of, 4000);
        let stop = AtomicBool::new(false);
        let at = running.address.to_string();
        let link = AgentLink::connect(&at, &hello, PATIENCE, &stop).unwrap();
        match link.assignment(&stop).unwrap_err() {
            AgentError::Refused(reason) => reason,
            error => panic!("{error}"),
        }
    };
    let first = running.agent(1, Some(0));
    // The first is registered when a second of its name is refused.
    assert!(refused(1, None, address(8)).contains("a host named \"n1\" already"));
    assert!(refused(7, None, address(7)).contains("no host \"n7\", but n1, n2, n3"));
    assert!(refused(2, None, address(1)).contains("n1 has the address 10.0.0.1 already"));
    assert!(refused(2, Some(0), address(2)).contains("n1 has the rank 0 already"));
    assert!(refused(2, Some(3), address(2)).contains("rank 3 is too large for 3 hosts"));
    let others = [running.agent(2, None), running.agent(3, None)];
    assert_eq!(assignment(&first).hosts.len(), 3);
    assert!(refused(3, None, address(9)).contains("the cluster is complete with 3 hosts"));
    drop(others);
    assert!(matches!(running.end().0, Err(ClusterError::Host { .. })));
}

#[test]
fn other_versions_and_other_programs_do_no_harm() {
    let running = start(config(2));
    let mut later =
        running.stranger("{\"type\":\"hello\",\"protocol\":\"homa-load-cluster/99\"}\n");
    let mut answer = String::new();
    later.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("refused") && answer.contains("homa-load-cluster/99"), "{answer}");
    let mut browser = running.stranger("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    browser.read_to_string(&mut answer).unwrap();
    drop(running.stranger(""));
    let talker = running.stranger("");
    // More than a hello may be long, without a line feed; the connection may be closed meanwhile.
    let _ = (&talker).write_all(&[b'x'; 100_000]);
    let agents = vec![running.agent(1, None), running.agent(2, None)];
    set_up(&agents);
    finish(agents);
    assert_eq!(names(&running.end().0.unwrap()), ["n1", "n2"]);
}

#[test]
fn an_agent_that_talks_out_of_turn_is_lost() {
    let running = start(config(2));
    let agents = [running.agent(1, None), running.agent(2, None)];
    agents[1].send(&FromAgent::Finished).unwrap();
    assignment(&agents[0]);
    let (outcome, _) = running.end();
    let error = outcome.unwrap_err().to_string();
    assert!(error.starts_with("host n2: it said something out of turn"), "{error}");
}

#[test]
fn a_run_that_is_interrupted_gives_what_there_is() {
    let running = start(config(2));
    let agents = [running.agent(1, None), running.agent(2, None)];
    set_up(&agents);
    running.stop.store(true, Ordering::Relaxed);
    for agent in agents {
        assert_eq!(order(&agent), FromCoordinator::Stop);
        agent.close(&result(5)).unwrap();
    }
    let outcome = running.end().0.unwrap();
    assert!(outcome.is_interrupted);
    assert!(outcome.hosts.iter().all(|host| host.lost.is_none() && host.result.is_some()));
    assert!(outcome::trouble(&outcome, None).unwrap().contains("the run was interrupted"));
}

#[test]
fn an_agent_that_ends_early_is_named_and_its_result_counts() {
    let running = start(config(2));
    let mut agents = vec![running.agent(1, None), running.agent(2, None)];
    set_up(&agents);
    agents.remove(0).close(&result(7)).unwrap();
    finish(agents);
    let outcome = running.end().0.unwrap();
    let early: Vec<_> = outcome.hosts.iter().map(|host| host.is_early).collect();
    assert_eq!(early, [true, false]);
    assert_eq!(outcome.hosts[0].result.as_ref().unwrap().served.requests, 7);
    assert!(outcome::trouble(&outcome, None).unwrap().contains("host n1 ended early"));
}

#[test]
fn a_coordinator_that_is_gone_or_not_there_is_noticed() {
    let running = start(config(2));
    let agent = running.agent(1, None);
    running.stop.store(true, Ordering::Relaxed);
    assert!(matches!(running.end().0, Err(ClusterError::Interrupted)));
    let error = agent.assignment(&AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("interrupted before the load began"), "{error}");
    assert!(matches!(agent.next(PATIENCE), Some(Err(LinkError::Closed))));
    // Nobody listens on a port that was just free.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hello = hello("n1", None, address(1), 4000);
    let stop = AtomicBool::new(false);
    let error = AgentLink::connect(&free.to_string(), &hello, Duration::ZERO, &stop).unwrap_err();
    assert!(error.to_string().contains("was not reached in 0 s"), "{error}");
    stop.store(true, Ordering::Relaxed);
    let error = AgentLink::connect(&free.to_string(), &hello, PATIENCE, &stop).unwrap_err();
    assert!(matches!(error, AgentError::Interrupted), "{error}");
}

#[test]
fn ranks() {
    let order = |hosts: &[(&str, Option<u32>)], names: &[&str]| {
        let hosts: Vec<_> = hosts.iter().map(|host| (host.0.to_owned(), host.1)).collect();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let sorted = by_rank(hosts, &names, |host| host.clone());
        sorted.into_iter().map(|host| host.0).collect::<Vec<_>>().join("")
    };
    assert_eq!(order(&[("c", None), ("a", None), ("b", None)], &[]), "abc");
    assert_eq!(order(&[("c", Some(1)), ("a", None), ("b", None)], &[]), "acb");
    assert_eq!(order(&[("a", Some(2)), ("b", Some(0)), ("c", Some(1))], &[]), "bca");
    assert_eq!(order(&[("a", None), ("b", None), ("c", None)], &["c", "a", "b"]), "cab");
}
