//! HTTP over a stream of bytes between two processes: hyper's server here, hyper's client in a child, over ginnel and over a Unix socket, in turns. A
//! body goes each way and is checksummed where it arrives; nothing but the transport differs.
//! Arguments: MiB each way (default 1024), turns (default 3).

mod exchange;

use exchange::{Outcome, ask, serve};
use ginnel::stream::{Listener, Stream};
use std::process::{Child, Command, Stdio};
use tokio::net::{UnixListener, UnixStream};

/// The client, which says how long it took.
async fn client(how: &str, address: &str, mib: u64) -> Outcome<()> {
    let (down, up) = match how {
        "socket" => ask(UnixStream::connect(address).await?, mib).await?,
        _ => ask(Stream::connect_async(address).await?, mib).await?,
    };
    println!("{} {}", down.as_secs_f64(), up.as_secs_f64());
    Ok(())
}

fn start(how: &str, address: &str, mib: u64) -> Outcome<Child> {
    let mut child = Command::new(std::env::current_exe()?);
    Ok(child.args(["--client", how, address, &mib.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
}

/// Seconds down and up.
async fn turn(how: &str, mib: u64) -> Outcome<[f64; 2]> {
    let name = format!("http-{}", std::process::id());
    let child = if how == "socket" {
        let path = std::env::temp_dir().join(&name);
        let listener = UnixListener::bind(&path)?;
        let child = start(how, &path.display().to_string(), mib)?;
        let accepted = listener.accept().await;
        std::fs::remove_file(&path)?;
        serve(accepted?.0).await?;
        child
    } else {
        let address = format!("shm:{name}");
        let mut listener = Listener::bind(&address)?;
        let child = start(how, &address, mib)?;
        serve(listener.accept_async().await?).await?;
        child
    };
    let output = child.wait_with_output()?;
    let said = String::from_utf8(output.stdout)?;
    let seconds: Vec<f64> = said.split_whitespace().map_while(|text| text.parse().ok()).collect();
    Ok(seconds.try_into().map_err(|_| format!("{how}: the client failed"))?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, how, address, mib] = &arguments[..] {
        if flag == "--client" {
            return client(how, address, mib.parse()?).await;
        }
    }
    let number = |at: usize, default: u64| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (mib, turns) = (number(0, 1024)?, number(1, 3)?.max(1));
    println!(
        "{mib} MiB each way over HTTP/1.1, the middle of {turns} turns, GiB/s; every byte checked where it arrived"
    );
    println!("{:10} {:>7} {:>7}", "", "down", "up");
    let mut rates = [["socket"; 2], ["ginnel"; 2]].map(|how| how.map(|how| (how, Vec::new())));
    for _ in 0..turns {
        for both in &mut rates {
            let seconds = turn(both[0].0, mib).await?;
            both.iter_mut().zip(seconds).for_each(|(way, seconds)| way.1.push(mib as f64 / 1024.0 / seconds));
        }
    }
    for both in &mut rates {
        let [down, up] = both.each_mut().map(|(_, rates)| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        });
        println!("{:10} {down:7.2} {up:7.2}", both[0].0);
    }
    Ok(())
}
