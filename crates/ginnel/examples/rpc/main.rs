//! Remote calls over a stream of bytes between two processes: tarpc's server here, tarpc's client in a child, over ginnel and over a Unix socket, in turns. Each answer
//! is checked against what was asked; nothing but the transport differs.
//! Arguments: calls one by one, and as many again several at a time (default 20000); turns (default 3).

mod shop;

use ginnel::stream::{Listener, Stream};
use shop::{Outcome, TOGETHER, ask, serve};
use std::process::{Child, Command, Stdio};
use tokio::net::{UnixListener, UnixStream};

/// The client, which says how long its calls took.
async fn client(how: &str, address: &str, calls: u64) -> Outcome<()> {
    let took = match how {
        "socket" => ask(UnixStream::connect(address).await?, calls).await?,
        _ => ask(Stream::connect_async(address).await?, calls).await?,
    };
    println!("{} {}", took[0].as_nanos(), took[1].as_nanos());
    Ok(())
}

fn start(how: &str, address: &str, calls: u64) -> Outcome<Child> {
    let mut child = Command::new(std::env::current_exe()?);
    let child = child.args(["--client", how, address, &calls.to_string()]);
    Ok(child.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
}

/// Nanoseconds a call, one by one and several at a time.
async fn turn(how: &str, calls: u64) -> Outcome<[f64; 2]> {
    let name = format!("rpc-{}", std::process::id());
    let (child, served) = if how == "socket" {
        let path = std::env::temp_dir().join(&name);
        let listener = UnixListener::bind(&path)?;
        let child = start(how, &path.display().to_string(), calls)?;
        let accepted = listener.accept().await;
        std::fs::remove_file(&path)?;
        (child, serve(accepted?.0).await)
    } else {
        let address = format!("shm:{name}");
        let mut listener = Listener::bind(&address)?;
        let child = start(how, &address, calls)?;
        (child, serve(listener.accept_async().await?).await)
    };
    let output = child.wait_with_output()?;
    let said = String::from_utf8(output.stdout)?;
    let took: Vec<f64> = said.split_whitespace().map_while(|text| text.parse().ok()).collect();
    if !output.status.success() || served as u64 != 2 * calls {
        return Err(format!(
            "{how}: the client ended with {}, and {served} calls came of {}",
            output.status,
            2 * calls
        )
        .into());
    }
    Ok(took.try_into().map_err(|_| format!("{how}: the client said {said:?}"))?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, how, address, calls] = &arguments[..] {
        if flag == "--client" {
            return client(how, address, calls.parse()?).await;
        }
    }
    let number = |at: usize, default: u64| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (calls, turns) = (number(0, 20_000)?.max(1), number(1, 3)?.max(1));
    println!(
        "2 x {calls} calls of tarpc, as JSON, the middle of {turns} turns, us a call; every answer checked against what was asked"
    );
    println!("{:10} {:>12} {:>12}", "", "one by one", format!("{TOGETHER} at once"));
    let mut took = ["socket", "ginnel"].map(|how| (how, [Vec::new(), Vec::new()]));
    for _ in 0..turns {
        for (how, columns) in &mut took {
            let turn = turn(how, calls).await?;
            columns.iter_mut().zip(turn).for_each(|(column, ns)| column.push(ns / 1000.0));
        }
    }
    for (how, columns) in &mut took {
        let [alone, together] = columns.each_mut().map(|column| {
            column.sort_by(f64::total_cmp);
            column[column.len() / 2]
        });
        println!("{how:10} {alone:12.2} {together:12.2}");
    }
    Ok(())
}
