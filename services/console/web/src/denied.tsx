import { useEffect, useState } from "preact/hooks";
import { get, type Problem, query, Refused } from "./data";
import { Failure, Name, Table, Waiting } from "./parts";

interface Denied {
  known: boolean;
  rules: { policy: string; direction: string; rule: string; per_second: number; is_known: boolean }[];
}

const EVERY = 5000;

export function DeniedView() {
  const [value, set] = useState<Denied | null>(null);
  const [error, fail] = useState<Problem | null>(null);
  useEffect(() => {
    let ended = false;
    const ask = async () => {
      try {
        const answer = await get<Denied>("/api/denied");
        if (!ended) {
          set(answer);
          fail(null);
        }
      } catch (reason) {
        if (!ended && reason instanceof Refused) fail(reason.problem);
      }
    };
    void ask();
    const timer = setInterval(() => void ask(), EVERY);
    return () => {
      ended = true;
      clearInterval(timer);
    };
  }, []);
  return (
    <>
      <h1>Denied now</h1>
      <p class="quiet">Rules that deny, by the connections that they refused in the last five minutes.</p>
      {error && <Failure problem={error} />}
      {!value && !error && <Waiting what="counters" />}
      {value && !value.known && (
        <p>
          Agents count, and Prometheus collects. This console was not told where Prometheus is: set{" "}
          <code>ROMANA_CONSOLE__PROMETHEUS</code>, such as to <code>http://127.0.0.1:9090</code>.
        </p>
      )}
      {value?.known && value.rules.length === 0 && <p>Nothing was denied.</p>}
      {value && value.rules.length > 0 && (
        <Table caption="Rules that deny" columns={["Policy", "Direction", "Rule", "Why", "Packets a second"]}>
          {value.rules.map((each) => (
            <tr>
              <td>
                <Name>{each.policy}</Name>
                {!each.is_known && <span class="quiet"> (gone)</span>}
              </td>
              <td>{each.direction}</td>
              <td>{each.rule === "default" ? "no rule matched" : each.rule}</td>
              <td>
                {each.is_known && (
                  <a
                    href={`/explain${query({ policy: each.policy, direction: each.direction, rule: each.rule })}`}
                    aria-label={`Explain what ${each.policy}, ${each.direction} ${each.rule} denies`}
                  >
                    Explain
                  </a>
                )}
              </td>
              <td class="right">{each.per_second.toFixed(each.per_second < 10 ? 2 : 0)}</td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}
