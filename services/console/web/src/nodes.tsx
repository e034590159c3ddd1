import { useState } from "preact/hooks";
import { type EnforcedRule, type NodeList, query, type Route, useData } from "./data";
import { RoutesInKernel, RulesInKernel } from "./kernel";
import { go, mapAddress, nodeAddress } from "./route";
import { Failure, moment, Name, number, owner, plural, Table, Waiting } from "./parts";
import { RouteCells } from "./route_cells";

const STATES: Record<string, string> = {
  current: "current",
  behind: "behind: it has not applied everything yet",
  failing: "failing: it could not apply something",
  away: "away: its agent has no stream",
  never: "never: its agent has had no stream yet",
};

function State({ state }: { state: string }) {
  return (
    <span class={`state ${state}`} title={STATES[state]}>
      {state}
    </span>
  );
}

export function NodesView({ query: chosen }: { query: URLSearchParams }) {
  const text = chosen.get("q") ?? "";
  const state = chosen.get("state") ?? "";
  const page = chosen.get("page") ?? "";
  const { value, error } = useData<NodeList>(`/api/nodes${query({ q: text, state, page })}`, ["nodes"]);
  const [typed, type] = useState(text);
  const away = value ? (value.counts["away"] ?? 0) + (value.counts["never"] ?? 0) : 0;
  const all = value ? Object.values(value.counts).reduce((sum, each) => sum + each, 0) : 0;
  return (
    <>
      <h1>Nodes</h1>
      {value && (
        <p class={away ? "bad" : "quiet"}>
          {number(all - away)} of {plural(all, "agent")} {all === 1 ? "is" : "are"} connected.
        </p>
      )}
      <form
        class="filter"
        onSubmit={(event) => {
          event.preventDefault();
          go(`/nodes${query({ q: typed, state })}`);
        }}
      >
        <label>
          Name <input value={typed} maxLength={253} onInput={(event) => type(event.currentTarget.value)} />
        </label>
        <label>
          State{" "}
          <select value={state} onChange={(event) => go(`/nodes${query({ q: typed, state: event.currentTarget.value })}`)}>
            <option value="">any</option>
            {Object.keys(STATES).map((each) => (
              <option value={each}>
                {each}
                {value ? ` (${value.counts[each] ?? 0})` : ""}
              </option>
            ))}
          </select>
        </label>
        <button type="submit">Show</button>
      </form>
      {error && <Failure problem={error} />}
      {!value && !error && <Waiting what="nodes" />}
      {value && (
        <Table
          caption="Nodes"
          columns={["Node", "State", "Address", "Networks", "Groups", "Agent", "Applied", "Last heard", "Could not apply"]}
        >
          {value.nodes.map((node) => (
            <tr>
              <td>
                <a href={nodeAddress(node.name)}>
                  <Name>{node.name}</Name>
                </a>
              </td>
              <td>
                <State state={node.state} />
              </td>
              <td>{node.addresses.join(", ")}</td>
              <td>
                <Name>{node.networks.join(", ")}</Name>
              </td>
              <td>
                <Name>{node.groups.join(", ")}</Name>
              </td>
              <td>{node.version}</td>
              <td class="right">{node.applied === null ? "" : number(node.applied)}</td>
              <td>{moment(node.heard)}</td>
              <td class={node.failures.length ? "bad" : ""}>
                <Name>{node.failures.slice(0, 3).join("; ")}</Name>
              </td>
            </tr>
          ))}
        </Table>
      )}
      {value && value.pages > 1 && (
        <nav class="pages" aria-label="Pages">
          {value.page > 0 && <a href={`/nodes${query({ q: text, state, page: value.page - 1 })}`}>Before</a>}
          <span>
            Page {value.page + 1} of {value.pages}
          </span>
          {value.page + 1 < value.pages && (
            <a href={`/nodes${query({ q: text, state, page: value.page + 1 })}`}>Next</a>
          )}
        </nav>
      )}
    </>
  );
}

interface Position {
  revision: string;
}

interface Status {
  connected: boolean;
  replica: string;
  agent_version: string;
  applied?: Position;
  failures: { resource: string; reason: string; message: string }[];
  update_time?: string;
}

interface OneNode {
  node: {
    name: string;
    address: string;
    other_address: string;
    labels: Record<string, string>;
    attachments: { network: string; interface: string; address: string; vlan_id: number }[];
    placements: { topology: string; group: string }[];
    networks: string[];
    create_time?: string;
  };
  state: string;
  problems: string[];
  own_routes?: Route[];
  remote_routes?: Route[];
  remote_route_count?: number;
  addresses?: { name: string; address: string; network: string; tenant: string; segment: string }[];
  rules?: EnforcedRule[];
  rule_count?: number;
  endpoints?: { name: string; tenant: string; segment: string; addresses: string[] }[];
  routes_status: Status | null;
  rules_status: (Status & { current: boolean; failsafe_inbound: string[]; failsafe_outbound: string[] }) | null;
  revision: number;
  blocks: {
    network: string;
    prefix: string;
    tenant: string;
    segment: string;
    size: number;
    used: number;
    resting: number;
    stranded: boolean;
  }[];
}

export function NodePage({ name }: { name: string }) {
  const { value, error } = useData<OneNode>(`/api/nodes/${encodeURIComponent(name)}`, ["nodes", "map", "topology", "policies"]);
  return (
    <>
      <p class="crumbs">
        <a href="/nodes">Nodes</a> › <Name>{name}</Name>
      </p>
      <h1>
        <Name>{name}</Name> {value && <State state={value.state} />}
      </h1>
      {error && <Failure problem={error} />}
      {!value && !error && <Waiting what="the node" />}
      {value && <One value={value} />}
    </>
  );
}

function One({ value }: { value: OneNode }) {
  const node = value.node;
  const own = [node.address, node.other_address].filter(Boolean).join(", ");
  const labels = Object.entries(node.labels).map(([key, each]) => `${key}=${each}`);
  return (
    <>
      {value.problems.map((each) => (
        <p class="problem">{each}</p>
      ))}
      <dl class="facts">
        <dt>Address</dt>
        <dd>{own || "none"}</dd>
        <dt>Labels</dt>
        <dd>
          <Name>{labels.join(", ") || "none"}</Name>
        </dd>
        <dt>Groups</dt>
        <dd>
          <Name>{node.placements.map((each) => each.group).join(", ") || "none"}</Name>
        </dd>
        <Stream title="Routes, from ipam" status={value.routes_status} revision={value.revision} />
        <Stream title="Rules, from policy" status={value.rules_status} revision={null} />
        {value.rules_status && (
          <>
            <dt>Never closed, by what its agent says</dt>
            <dd>
              in: {value.rules_status.failsafe_inbound.join(", ") || "nothing"}; out:{" "}
              {value.rules_status.failsafe_outbound.join(", ") || "nothing"}
            </dd>
          </>
        )}
      </dl>
      <h2>Networks</h2>
      <Table caption="Networks" columns={["Network", "Interface", "Address", "VLAN"]}>
        {node.networks.map((network) => {
          const at = node.attachments.find((each) => each.network === network);
          return (
            <tr>
              <td>
                <a href={mapAddress(network)}>
                  <Name>{network}</Name>
                </a>
              </td>
              <td>{at?.interface ?? ""}</td>
              <td>{at?.address || own}</td>
              <td>{at?.vlan_id || ""}</td>
            </tr>
          );
        })}
      </Table>
      <h2>Blocks</h2>
      <Table caption="Blocks" columns={["Block", "Network", "Owner", "In use", "Resting", ""]}>
        {value.blocks.map((block) => (
          <tr>
            <td>
              <a href={mapAddress(block.network, block.prefix)}>{block.prefix}</a>
            </td>
            <td>
              <Name>{block.network}</Name>
            </td>
            <td>
              <Name>{owner(block.tenant, block.segment)}</Name>
            </td>
            <td class="right">
              {number(block.used)} of {number(block.size)}
            </td>
            <td class="right">{number(block.resting)}</td>
            <td>{block.stranded && <strong class="bad">stranded</strong>}</td>
          </tr>
        ))}
      </Table>
      <h2>Endpoints and addresses</h2>
      <Table caption="Addresses" columns={["Name", "Address", "Network", "Owner"]}>
        {value.addresses?.map((each) => (
          <tr>
            <td>
              <Name>{each.name}</Name>
            </td>
            <td>
              <a href={mapAddress(each.network, around(each.address), each.address)}>{each.address}</a>
            </td>
            <td>
              <Name>{each.network}</Name>
            </td>
            <td>
              <Name>{owner(each.tenant, each.segment)}</Name>
            </td>
          </tr>
        ))}
      </Table>
      <h2>Rules</h2>
      <p class="quiet">{told(value)}</p>
      <Rules rules={value.rules ?? []} />
      {(value.rule_count ?? 0) > (value.rules?.length ?? 0) && (
        <p class="quiet">The first of {number(value.rule_count ?? 0)}.</p>
      )}
      <RulesInKernel node={node.name} key={`rules of ${node.name}`} />
      <h2>Routes to the other nodes</h2>
      <Routes routes={value.remote_routes ?? []} />
      {(value.remote_route_count ?? 0) > (value.remote_routes?.length ?? 0) && (
        <p class="quiet">The first of {number(value.remote_route_count ?? 0)}.</p>
      )}
      <RoutesInKernel node={node.name} key={`routes of ${node.name}`} />
      <h2>Routes by which the others reach it</h2>
      <Routes routes={value.own_routes ?? []} />
    </>
  );
}

function around(address: string): string {
  return address.includes(":") ? `${address}/120` : `${address.split(".").slice(0, 3).join(".")}.0/24`;
}

function Stream({ title, status, revision }: { title: string; status: Status | null; revision: number | null }) {
  const applied = status?.applied?.revision;
  return (
    <>
      <dt>{title}</dt>
      <dd>
        {!status && "its agent has not been seen"}
        {status && (
          <>
            {status.connected ? "connected" : <span class="bad">no stream</span>}
            {applied && revision ? `, revision ${applied} of ${revision} applied` : ""}
            {status.agent_version && `, agent ${status.agent_version}`}
            {status.update_time && `, last heard ${moment(status.update_time)}`}
            {status.failures.map((each) => (
              <p class="bad">
                <Name>
                  {each.resource}: {each.message || each.reason}
                </Name>
              </p>
            ))}
          </>
        )}
      </dd>
    </>
  );
}

function told({ rules_status: status }: OneNode): string {
  if (!status) return "What policy would tell its agent, which has not been seen.";
  if (!status.connected) return "What policy tells; its agent has no stream, and enforces what it was told last.";
  if (status.failures.length) return "Its agent says that it enforces this, but for what it could not apply.";
  return status.current ? "Its agent says that it enforces all of this." : "Its agent has not applied all of this yet.";
}

function Rules({ rules }: { rules: EnforcedRule[] }) {
  if (!rules.length) return <p class="quiet">None.</p>;
  return (
    <Table
      caption="Rules"
      columns={["For", "Direction", "Tier", "Policy", "Rule", "Action", "Peers", "Ports"]}
    >
      {rules.map((rule) => (
        <tr>
          <td>
            <Name>{rule.subject}</Name>
          </td>
          <td>{rule.direction}</td>
          <td>{rule.tier}</td>
          <td>
            <Name>{rule.policy || "none"}</Name>
          </td>
          <td class="right">{rule.rule}</td>
          <td>
            <Name>{rule.action}</Name>
          </td>
          <td>{rule.peers}</td>
          <td>{rule.ports}</td>
        </tr>
      ))}
    </Table>
  );
}

function Routes({ routes }: { routes: Route[] }) {
  if (!routes.length) return <p class="quiet">None.</p>;
  return (
    <Table caption="Routes" columns={["Network", "Prefix", "Node", "Next hop"]}>
      {routes.map((route) => (
        <tr>
          <RouteCells route={route} />
        </tr>
      ))}
    </Table>
  );
}
