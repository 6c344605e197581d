//! Only the first stage's function says its type: every other infers it. Of what is called here
//! nothing may need an annotation, but for the error type of an `async` block or closure that uses
//! `Ok`, which Rust itself cannot know.

use std::convert::Infallible;

use catchment::{
    BoxError, Combine, Context, Deployment, Emitter, Error, Items, Map, Pipeline, Stage,
};

/// A stage of its own type: says how long words are.
struct Lengths;

impl Map for Lengths {
    type Input = String;
    type Output = u64;

    async fn map(
        &self,
        word: String,
        _: &Context,
        lengths: &mut Emitter<'_, u64>,
    ) -> Result<(), BoxError> {
        lengths.push(word.len() as u64);
        Ok(())
    }
}

/// A reduction of its own type: the largest.
struct Largest;

impl Combine for Largest {
    type Input = u64;
    type Output = u64;

    fn identity(&self) -> u64 {
        0
    }

    async fn fold(&self, items: Items<'_, u64>, _: &Context) -> Result<u64, BoxError> {
        Ok(items.max().unwrap_or(0))
    }

    async fn combine(&self, group: Vec<u64>, _: &Context) -> Result<u64, BoxError> {
        Ok(group.into_iter().max().unwrap_or(0))
    }
}

/// Every call on items, each with a method of the item's that needs the type to be known.
#[tokio::test]
async fn stages_infer_what_they_take() -> Result<(), Error> {
    let words = Pipeline::new()
        .map(|line: String| line)
        .map(|line| line.trim().to_owned())
        .try_map(|line| line.parse::<u32>().map(|_| line))
        .try_map_with(|line, context| match context.item() {
            Some(_) => Ok(line.repeat(2)),
            None => Err("an item has an index"),
        })
        .then(|line| async move { Ok::<_, Infallible>(line.len()) })
        .then_with(|length, context| async move {
            Ok::<_, Infallible>((length.pow(2), context.attempt()))
        })
        .filter(|(square, _)| square.is_power_of_two())
        .filter_map(|(square, attempt)| square.checked_sub(1).map(|less| (less, attempt)))
        .flat_map(|(less, attempt)| vec![less.to_string(); attempt as usize])
        .stage(Lengths)
        .map(|length| length.pow(2))
        .with(Stage::named("square"))
        .reduce(|| 0, |a, b| a.max(b));
    assert_eq!(words.run([" 1".to_string(), "22 ".to_string()]).await?, 4);
    Ok(())
}

/// Every reduction, and every call that may follow one.
#[tokio::test]
async fn reductions_infer_what_they_take() -> Result<(), Error> {
    let numbers = || Pipeline::new().map(|n: u64| n);
    let reduced = numbers().reduce(|| 0, |a, b| a.wrapping_add(b));
    let tried = numbers().try_reduce(|| 0, |a, b| a.checked_add(b).ok_or("too large"));
    let folded = numbers().fold(
        || (0, 0),
        |(sum, count), n| (n.wrapping_add(sum), count + 1),
        |(s, c), (t, d)| (s.wrapping_add(t), c + d),
    );
    let finished = folded.clone().map(|(sum, count)| sum.pow(2) + count);
    let combined = numbers().combine(Largest).map(|most| most.pow(2));
    let collected = numbers().collect().map(|list| list.len());
    let counted = numbers().count().map(|count| count.pow(2));
    let again = numbers()
        .collect()
        .flat_map(|list| list.into_iter().rev())
        .filter(|n| n.is_power_of_two())
        .fold(String::new, |text, n| text + &n.to_string(), |a, b| a + &b)
        .map(|text| text.len());
    let through = numbers().filter(|n| n.is_power_of_two());
    assert_eq!(reduced.run(1..=4).await?, 10);
    assert_eq!(tried.run(1..=4).await?, 10);
    assert_eq!(folded.run(1..=4).await?, (10, 4));
    assert_eq!(finished.run(1..=4).await?, 104);
    assert_eq!(combined.run(1..=4).await?, 16);
    assert_eq!(collected.run(1..=4).await?, 4);
    assert_eq!(counted.run(1..=4).await?, 16);
    assert_eq!(again.run(1..=4).await?, 3);
    assert_eq!(through.run(1..=4).await?, 4);
    Ok(())
}

/// The type of a pipeline can be written down: for a struct's field, or a function's return type.
#[test]
fn types_can_be_named() -> Result<(), Error> {
    struct Service {
        adder: Deployment<i64, i64>,
    }
    let adder: Pipeline<i64, i64, catchment::pipeline::One> =
        Pipeline::new().map(|n: i64| n).reduce(|| 0, |a, b| a + b);
    let backend = catchment::Backend::memory();
    let adder = adder.deploy("adder", backend)?;
    assert_eq!(Service { adder }.adder.name(), "adder");
    Ok(())
}
