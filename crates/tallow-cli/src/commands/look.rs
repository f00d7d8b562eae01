//! `tallow look`.

use crate::activity::Activity;
use crate::arguments::{LookArguments, LookFormat};
use crate::commands::page_output::write_page;
use crate::hub::hub;
use crate::notices::PrintNotices;
use crate::threads;
use anyhow::{Result, bail};
use std::process::ExitCode;
use tallow::look::{Look, LookRequest, MOST_CELLS, to_html};
use tallow::{Device, RunDirectory, SavedModel};

pub(crate) fn run(arguments: LookArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    let saved = SavedModel::find(&arguments.model, &hub(arguments.hub.offline), &PrintNotices)?;
    let request = LookRequest {
        source: arguments.sentence.clone(),
        target: arguments.target.clone(),
        config: saved.decode_config(),
        without_heads: !arguments.checkpoints,
        is_timed: true,
    };
    let mut activity = Activity::new(true);
    activity.begin("opening the model");
    let (opened, tokenizers) = saved.open(&Device::Cpu)?;
    let model = opened.for_inference()?;
    activity.begin("looking at every head");
    let look = Look::new(&arguments.model, &model, &tokenizers, &request)?;
    let text = match (arguments.checkpoints, arguments.format) {
        (false, LookFormat::Html) => to_html(std::slice::from_ref(&look))?,
        (false, LookFormat::Json) => serde_json::to_string(&look)? + "\n",
        (true, format) => {
            let Some(run) = &saved.run else {
                bail!(
                    "{}: this model belongs to no run, so there are no checkpoints to look at",
                    arguments.model
                );
            };
            let looks = checkpoints(run, &look, &request, &mut activity)?;
            match format {
                LookFormat::Html => to_html(&looks)?,
                LookFormat::Json => serde_json::to_string(&looks)? + "\n",
            }
        }
    };
    activity.end();
    write_page(arguments.output.as_deref(), arguments.format, "look.html", &text)?;
    Ok(ExitCode::SUCCESS)
}

/// Looks at the checkpoints of a run, evenly from all of them, as many as a page can show. The decoder of each predicts
/// the translation of the best model, so that they can be compared.
fn checkpoints(run: &RunDirectory, best: &Look, request: &LookRequest, activity: &mut Activity) -> Result<Vec<Look>> {
    let updates = run.saved_updates()?;
    let most = (MOST_CELLS / best.cells().max(1)).clamp(1, updates.len().max(1));
    // The last one is always among them.
    let chosen: Vec<u64> = (1..=most)
        .filter_map(|number| updates.get((number * updates.len() / most).checked_sub(1)?).copied())
        .collect();
    if chosen.is_empty() {
        bail!(
            "{}: this run has kept no checkpoints; train.keep_last says how many it keeps",
            run.path().display()
        );
    }
    if chosen.len() < updates.len() {
        activity.aside(|| {
            eprintln!(
                "note: {} of {} checkpoints are shown; for this sentence more would be too much for a page",
                chosen.len(),
                updates.len()
            );
        });
    }
    let request = LookRequest {
        target: Some(best.target_text.clone()),
        without_heads: false,
        is_timed: false,
        ..request.clone()
    };
    let mut looks = Vec::with_capacity(chosen.len());
    for update in chosen {
        activity.begin(format!("looking at update {update}"));
        let (opened, tokenizers) = SavedModel::at(run.checkpoint(update), &PrintNotices)?.open(&Device::Cpu)?;
        let model = opened.for_inference()?;
        looks.push(Look {
            update: Some(update),
            is_forced: best.is_forced,
            times: best.times.clone(),
            ..Look::new(&best.model, &model, &tokenizers, &request)?
        });
    }
    Ok(looks)
}
