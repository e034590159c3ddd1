// What a node's kernel has, asked of its agent when somebody wants to know.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { type EnforcedRule, type Route, useData } from "./data";
import { Failure, moment, Name, number, Table, Waiting } from "./parts";
import { RouteCells } from "./route_cells";

interface Difference {
  how: string;
  what: string;
}

interface Kernel<Item> {
  verdict: string;
  agrees: boolean;
  items: Item[];
  item_count: number;
  differences: Difference[];
  answered: string;
}

interface RuleInKernel {
  rule: EnforcedRule;
  kernel: string;
  packets: number;
}

interface RouteInKernel {
  route: Route;
  kernel: string;
  interface: string;
}

export function RulesInKernel({ node }: { node: string }) {
  return (
    <Asked<RuleInKernel>
      title="Rules in its kernel"
      path={`/api/nodes/${encodeURIComponent(node)}/kernel-rules`}
      columns={["For", "Direction", "Policy", "Rule", "Action", "Kernel", "Packets"]}
      row={({ rule, kernel, packets }) => (
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
      )}
    />
  );
}

export function RoutesInKernel({ node }: { node: string }) {
  return (
    <Asked<RouteInKernel>
      title="Routes in its kernel"
      path={`/api/nodes/${encodeURIComponent(node)}/kernel-routes`}
      columns={["Network", "Prefix", "Node", "Next hop", "Kernel", "Interface"]}
      row={({ route, kernel, interface: leaves }) => (
        <tr>
          <RouteCells route={route} />
          <td class={kernel === "yes" || kernel === "by the gateway" ? "" : "bad"}>{kernel}</td>
          <td>{leaves}</td>
        </tr>
      )}
    />
  );
}

function Asked<Item>({
  title,
  path,
  columns,
  row,
}: {
  title: string;
  path: string;
  columns: string[];
  row: (item: Item) => ComponentChildren;
}) {
  const [asked, ask] = useState(0);
  const { value, error } = useData<Kernel<Item>>(asked ? `${path}?asked=${asked}` : null, []);
  const isAsking = asked > 0 && !value && !error;
  return (
    <section aria-label={title}>
      <h2>{title}</h2>
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
          {value.items.length > 0 && (
            <Table caption={title} columns={columns}>
              {value.items.map(row)}
            </Table>
          )}
          {value.item_count > value.items.length && <p class="quiet">The first of {number(value.item_count)}.</p>}
        </>
      )}
    </section>
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
