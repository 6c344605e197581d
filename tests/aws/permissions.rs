//! The table of permissions in docs/aws.md, compared with the requests that each row's code makes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catchment::{Error, RunFilter};

use crate::common::{ministack, unique};
use crate::proxy::Proxy;
use crate::roles::{STAGES, texts, words};

/// The actions that the table allows, by row and column.
struct Table(BTreeMap<String, [BTreeSet<String>; 3]>);

impl Table {
    fn of_the_page() -> Self {
        let page = include_str!("../../docs/aws.md");
        let (_, table) = page.split_once("## Permissions").unwrap();
        let rows = table.lines().skip_while(|line| !line.starts_with('|'));
        let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
        Self(rows.map(row).collect())
    }

    fn allows(&self, who: &str, column: usize, action: &str) -> bool {
        let row = self.0.get(who);
        row.unwrap_or_else(|| panic!("no row `{who}`"))[column].contains(action)
    }
}

fn row(line: &str) -> (String, [BTreeSet<String>; 3]) {
    let mut cells = line.trim_matches('|').split('|');
    let who = cells.next().unwrap().trim().to_owned();
    let actions = |cell: &str| {
        let words = cell.split('`').skip(1).step_by(2);
        words.map(str::to_owned).collect()
    };
    let cells: Vec<BTreeSet<String>> = cells.map(actions).collect();
    let cells = cells.try_into();
    (who, cells.unwrap_or_else(|_| panic!("not three: {line}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the emulators that scripts/test starts"]
async fn the_table_of_permissions_has_every_request() {
    let name = unique("permissions");
    let mut proxies = Vec::new();
    let mut open = async |who: &'static str| {
        let proxy = Proxy::start(&ministack()).await;
        let deployment = words(&name, &proxy.endpoint());
        proxies.push((who, proxy));
        deployment
    };
    let provisions = open("provisions").await;
    let submits = open("submits").await;
    let looks = open("waits, inspects").await;
    let cancels = open("cancels").await;
    let redrives = open("lists dead letters, redrives").await;
    let mut workers = Vec::new();
    for stage in STAGES {
        let works = match stage {
            "sum" | "again" => "works, a reduction",
            _ => "works, a map stage",
        };
        let worker = open(works).await.worker().stages([stage]);
        workers.push(worker.cancel_check(Duration::ZERO));
    }

    provisions.provision().await.unwrap();
    let workers: Vec<_> = workers.into_iter().map(|worker| worker.start()).collect();
    let large = ["w", "x", "y", "z"].map(|letter| letter.repeat(700));
    for items in [
        texts(["a", "b", "c", "d"]),
        large,
        texts(["!parse", "?double", "?sum", "a"]),
    ] {
        let run = submits.submit(items).await.unwrap();
        let run = looks.attach(run.id().clone());
        run.outcome().await.unwrap();
        run.failures().await.unwrap();
    }
    submits.submit_as("twice", texts(["a"])).await.unwrap();
    submits.submit_as("twice", texts(["a"])).await.unwrap();
    // Submissions that cannot be completed, and one that can.
    let too_large = || ["x".repeat(2 * 1024 * 1024)];
    let refused = submits.submit(too_large()).await.unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }), "{refused}");
    let refused = submits.submit_as("again", too_large()).await.unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }), "{refused}");
    let run = submits.submit_as("again", texts(["a"])).await.unwrap();
    assert_eq!(looks.attach(run.id().clone()).result().await.unwrap(), "a");

    let run = submits.submit(texts(["!double", "a"])).await.unwrap();
    let id = run.id().clone();
    let run = looks.attach(id.clone());
    run.result().await.unwrap_err();
    run.failures().await.unwrap();
    run.status().await.unwrap();
    looks.runs(RunFilter::new()).await.unwrap();
    assert_eq!(
        redrives
            .attach(id.clone())
            .redrive()
            .await
            .unwrap()
            .redriven,
        1
    );
    redrives.dead_letters().await.unwrap();
    cancels.attach(id).cancel().await.unwrap();
    for worker in workers {
        worker.shutdown().await;
    }
    provisions.deprovision(&name).await.unwrap();

    let table = Table::of_the_page();
    let mut used: BTreeMap<&str, BTreeSet<(usize, String)>> = BTreeMap::new();
    for (who, proxy) in &proxies {
        for request in proxy.requests() {
            let (service, action) = request.action.split_once(':').unwrap();
            for resource in &request.resources {
                let column = match service {
                    "sqs" => 0,
                    _ if resource.ends_with("-scratchpad") => 1,
                    _ => 2,
                };
                used.entry(who)
                    .or_default()
                    .insert((column, action.to_owned()));
            }
        }
    }
    for (who, used) in &used {
        println!("{who}: {used:?}");
    }
    let missing: Vec<_> = used
        .iter()
        .flat_map(|(who, used)| used.iter().map(move |it| (who, it)))
        .filter(|(who, (column, action))| !table.allows(who, *column, action))
        .collect();
    assert!(
        missing.is_empty(),
        "used, and not in the table: {missing:#?}"
    );
}
