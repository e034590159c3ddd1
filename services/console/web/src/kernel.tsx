// What a node's kernel has, asked of its agent when somebody wants to know.
import { useState } from "preact/hooks";
import { type EnforcedRule, useData } from "./data";
import { Failure, moment, Name, number, Table, Waiting } from "./parts";

interface Difference {
  how: string;
  what: string;
}

interface Kernel {
  verdict: string;
  agrees: boolean;
  rules: { rule: EnforcedRule; kernel: string; packets: number }[];
  rule_count: number;
  differences: Difference[];
  answered: string;
}

export function RulesInKernel({ node }: { node: string }) {
  const [asked, ask] = useState(0);
  const path = asked ? `/api/nodes/${encodeURIComponent(node)}/kernel-rules?asked=${asked}` : null;
  const { value, error } = useData<Kernel>(path, []);
  const isAsking = path !== null && !value && !error;
  return (
    <>
      <h2>Rules in its kernel</h2>
      <p>
        <button type="button" disabled={isAsking} onClick={() => ask(asked + 1)}>
          {asked ? "Ask its agent again" : "Ask its agent"}
        </button>
      </p>
      {isAsking && <Waiting what="the agent" />}
      {error && <Failure problem={error} />}
      {value && (
        <>
          <p class={value.agrees ? "quiet" : "bad"} role="status">
            {value.verdict} <span class="quiet">At {moment(value.answered)}.</span>
          </p>
          <Differences differences={value.differences} />
          <Rules value={value} />
        </>
      )}
    </>
  );
}

function Differences({ differences }: { differences: Difference[] }) {
  if (!differences.length) return null;
  return (
    <Table caption="Differences" columns={["Difference", "What"]}>
      {differences.map((each) => (
        <tr>
          <td class="bad">{each.how}</td>
          <td>
            <Name>{each.what}</Name>
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Rules({ value }: { value: Kernel }) {
  if (!value.rules.length) return null;
  return (
    <>
      <Table caption="Rules in its kernel" columns={["For", "Direction", "Policy", "Rule", "Action", "Kernel", "Packets"]}>
        {value.rules.map(({ rule, kernel, packets }) => (
          <tr>
            <td>
              <Name>{rule.subject}</Name>
            </td>
            <td>{rule.direction}</td>
            <td>
              <Name>{rule.policy}</Name>
            </td>
            <td class="right">{rule.rule}</td>
            <td>
              <Name>{rule.action}</Name>
            </td>
            <td class={kernel === "yes" ? "" : "bad"}>{kernel}</td>
            <td class="right">{number(packets)}</td>
          </tr>
        ))}
      </Table>
      {value.rule_count > value.rules.length && <p class="quiet">The first of {number(value.rule_count)}.</p>}
    </>
  );
}
