//! Compares catchment with other ways to map and to reduce in one process. Every peer, job and size is measured in a
//! process of its own, which this program starts as `peers one PEER JOB N`.

mod arguments;
mod defaults;
mod figures;
mod input;
mod job;
mod machine;
mod measure;
mod one;
mod peers;
mod report;
mod table;
mod targets;
mod task;

use std::fs;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::arguments::{Arguments, Command, One};
use crate::job::{Job, Kind};
use crate::measure::Session;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::One(one)) => return measure_one(&one),
        Some(Command::Defaults) => {
            println!(
                "{}\n\n{}",
                machine::describe()?.join("\n"),
                defaults::table(job::calibrate())?
            );
            return Ok(());
        }
        None => {}
    }
    let table = arguments.table;
    let kinds = match table.job.as_slice() {
        [] => Kind::value_variants(),
        chosen => chosen,
    };
    let rounds = job::calibrate();
    let mut head = machine::describe()?;
    head.push(format!(
        "One item of the job `work` is {rounds} rounds of xorshift"
    ));
    println!("{}\n", head.join("\n"));
    let mut session = Session::new(&table, rounds);
    for run in 1..=table.runs {
        session.run(run, kinds)?;
    }
    let tables = report::tables(session.rows(), kinds, table.runs)
        + &targets::table(session.rows(), table.runs);
    print!("{tables}");
    if let Some(file) = &table.markdown {
        let head = head.join("\\\n");
        fs::write(file, format!("{head}\n\n{tables}"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let bad = session.rows().iter().filter(|row| row.is_bad()).count();
    ensure!(bad == 0, "{bad} times a peer failed or was wrong");
    Ok(())
}

fn measure_one(one: &One) -> Result<()> {
    let peer = peers::find(&one.peer).context("no such peer")?;
    let job = Job {
        kind: one.job,
        n: one.n,
        rounds: one.rounds.unwrap_or_else(job::calibrate),
    };
    let answer = one.answer.unwrap_or_else(|| job.answer());
    let measured = one::measure(peer, &job, answer, one.repetitions)?;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
