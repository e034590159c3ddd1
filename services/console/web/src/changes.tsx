// Changes on their way: a bar that turns green node by node.
import { type Change, type Changes, useData } from "./data";
import { nodeAddress } from "./route";
import { Failure, moment, Name, number, plural, seconds, Waiting } from "./parts";

export function ChangesView() {
  const { value, error } = useData<Changes>("/api/changes", ["changes"]);
  return (
    <>
      <h1>Changes</h1>
      {error && <Failure problem={error} />}
      {!value && !error && <Waiting what="changes" />}
      {value && (
        <>
          <p class="quiet">
            Since this console was started, the newest first.
            {value.latency &&
              ` Of ${plural(value.latency.changes, "change")} that nodes needed, half was in force ` +
                `everywhere after ${seconds(value.latency.p50)} (p50), all but one in a hundred after ` +
                `${seconds(value.latency.p99)} (p99).`}
          </p>
          {value.changes.length === 0 && <p>Nothing has changed yet.</p>}
          <ol class="changes">
            {value.changes.map((change) => (
              <Item key={change.number} change={change} />
            ))}
          </ol>
        </>
      )}
    </>
  );
}

function Item({ change }: { change: Change }) {
  return (
    <li class={change.seconds === null ? "pending" : "done"}>
      <div class="line">
        <span class={`kind ${change.kind}`}>{change.kind}</span>
        <strong>
          <Name>{change.what}</Name>
        </strong>
        <time class="quiet" dateTime={new Date(change.noticed * 1000).toISOString()}>
          {moment(change.noticed)}
        </time>
      </div>
      {change.authors.map((each) => (
        <p class="quiet author">
          by <Name>{each.client ? `${each.identity}, ${each.client}` : each.identity}</Name> (
          <code>romana audit show {each.revision}</code>)
        </p>
      ))}
      <Progress change={change} />
      {change.details.length > 0 && (
        <details>
          <summary>{plural(change.details.length, "line")} more</summary>
          <ul>
            {change.details.map((line) => (
              <li>
                <Name>{line}</Name>
              </li>
            ))}
          </ul>
        </details>
      )}
      {change.lagging.length > 0 && (
        <ul class="lagging">
          {change.lagging.map((each) => (
            <li>
              <a href={nodeAddress(each.node)}>
                <Name>{each.node}</Name>
              </a>
              {each.reason ? (
                <span class="bad">
                  {" "}
                  <Name>{each.reason}</Name>
                </span>
              ) : (
                <span class="quiet"> has not applied it yet</span>
              )}
            </li>
          ))}
          {(change.needed ?? 0) - change.applied > change.lagging.length && (
            <li class="quiet">and {number((change.needed ?? 0) - change.applied - change.lagging.length)} more</li>
          )}
        </ul>
      )}
    </li>
  );
}

function Progress({ change }: { change: Change }) {
  const needed = change.needed;
  if (needed === null) return <p class="quiet">Whom it concerns is not known yet.</p>;
  if (needed === 0) return <p class="quiet">No node needs it.</p>;
  const text =
    change.seconds === null
      ? `${number(change.applied)} of ${plural(needed, "node")}`
      : `in force on ${plural(needed, "node")} after ${seconds(change.seconds)}`;
  return (
    <div class="progress">
      <progress max={needed} value={change.applied} aria-label={text} />
      <span>{text}</span>
    </div>
  );
}
