// A packet's way, with who decides at each place.
import { useEffect, useState } from "preact/hooks";
import { ConnectionFields, useConnection } from "./connection";
import { query, useData } from "./data";
import { go } from "./route";
import { Failure, Name, Waiting } from "./parts";

interface Example {
  source: string;
  destination: string;
  protocol: string;
  port: number;
}

interface Verdict {
  action: string;
  policy: string;
  tier: string;
  rule: number;
  reason: string;
  asked: string[];
  otherwise: string[];
  audited: string[];
}

interface Leg {
  device: string;
  network: string;
  address: string;
  up: boolean;
  drain: boolean;
  outside?: { network: string; address: string };
}

interface Mirroring {
  policy: string;
  rule: number;
  direction: string;
  node: string;
  description: string;
}

interface Steering {
  policy: string;
  rule: number;
  direction: string;
  devices: Leg[];
  node: string;
  hops: string[];
  hops_back: string[];
  description: string;
}

interface Explanation {
  source_address: string;
  destination_address: string;
  action: string;
  egress?: Verdict;
  ingress?: Verdict;
  path: { kind: string; hops: string[]; description: string };
  steering?: Steering;
  mirrors: Mirroring[];
  unrealized_nodes: string[];
}

export function ExplainView({ query: chosen }: { query: URLSearchParams }) {
  const [source, setSource] = useState(chosen.get("source") ?? "");
  const [destination, setDestination] = useState(chosen.get("destination") ?? "");
  const connection = useConnection(chosen);
  const rule = { policy: chosen.get("policy") ?? "", direction: chosen.get("direction") ?? "", rule: chosen.get("rule") ?? "" };
  const example = useData<Example>(rule.policy ? `/api/example${query(rule)}` : null, []);
  useEffect(() => {
    const found = example.value;
    if (!found) return;
    const values = { protocol: found.protocol, port: found.port ? String(found.port) : "" };
    setSource(found.source);
    setDestination(found.destination);
    connection.set(values);
    if (found.source && found.destination)
      go(`/explain${query({ source: found.source, destination: found.destination, ...values })}`, true);
  }, [example.value]);
  const asked = chosen.get("source") && chosen.get("destination") ? `/api/explain${query(Object.fromEntries(chosen))}` : null;
  const { value, error } = useData<{ explanations?: Explanation[] }>(asked, ["policies", "map", "nodes"]);
  return (
    <>
      <p class="crumbs">
        <a href="/reach">Who reaches whom</a> › one connection
      </p>
      <h1>What becomes of a connection</h1>
      <form
        class="filter"
        onSubmit={(event) => {
          event.preventDefault();
          go(`/explain${query({ source, destination, ...connection.values })}`);
        }}
      >
        <label>
          From <input required value={source} onInput={(event) => setSource(event.currentTarget.value)} />
        </label>
        <label>
          To <input required value={destination} onInput={(event) => setDestination(event.currentTarget.value)} />
        </label>
        <ConnectionFields connection={connection} />
        <button type="submit">Explain</button>
      </form>
      <p class="quiet">
        An endpoint's name, an address, or <code>node:NAME</code>.
      </p>
      {rule.policy && example.value && (
        <p>
          Of <Name>{rule.policy}</Name>, {rule.direction}{" "}
          {rule.rule === "default" ? "where no rule matched" : `rule ${rule.rule}`}. Agents count what is denied and not
          whose it was: say the other end.
        </p>
      )}
      {example.error && <Failure problem={example.error} />}
      {error && <Failure problem={error} />}
      {asked && !value && !error && <Waiting what="policies" />}
      {value?.explanations?.map((each) => (
        <One
          item={each}
          source={chosen.get("source") ?? ""}
          destination={chosen.get("destination") ?? ""}
        />
      ))}
      {value && !value.explanations?.length && <p>The two have no addresses of one family.</p>}
    </>
  );
}

function does(action: string): string {
  return action === "RULE_ACTION_DENY" ? "deny" : "allow";
}

function One({ item, source, destination }: { item: Explanation; source: string; destination: string }) {
  const action = does(item.action);
  return (
    <section class="explanation">
      <h2>
        {item.source_address} → {item.destination_address}:{" "}
        <span class={`verdict ${action}`}>{action === "allow" ? "allowed" : "denied"}</span>
      </h2>
      <ol class="way">
        <li class="place">
          <span class="what">endpoint or address</span>
          <Name>{source}</Name>
        </li>
        {item.egress && <Gate title="leaves" verdict={item.egress} />}
        {(item.steering?.hops.length ? item.steering : item.path).hops.map((hop) => (
          <li class="place hop">
            <span class="what">{kind(hop)}</span>
            <Name>{hop.replace(/^(node|group) /, "")}</Name>
          </li>
        ))}
        {item.ingress && <Gate title="arrives" verdict={item.ingress} />}
        <li class={`place ${action === "deny" ? "unreached" : ""}`}>
          <span class="what">endpoint or address</span>
          <Name>{destination}</Name>
        </li>
      </ol>
      <p class="quiet">{item.path.description}</p>
      {item.steering && <Devices steering={item.steering} />}
      {item.mirrors.map((each) => (
        <div class="reason">
          <h3>copies</h3>
          <p>
            <Name>{each.description}</Name>, by {each.direction.replace("POLICY_DIRECTION_", "").toLowerCase()} rule{" "}
            {each.rule} of <Name>{each.policy}</Name>
            {each.node && (
              <>
                , on node <Name>{each.node}</Name>
              </>
            )}
          </p>
        </div>
      ))}
      {(["egress", "ingress"] as const).map((direction) => {
        const verdict = item[direction];
        return verdict && <Reason title={direction} verdict={verdict} decides={verdict.action === item.action} />;
      })}
      {!item.egress && !item.ingress && <p>Nothing is judged between these two.</p>}
      {item.unrealized_nodes.length > 0 && (
        <p class="bad">
          Not yet applied by <Name>{item.unrealized_nodes.join(", ")}</Name>
        </p>
      )}
    </section>
  );
}

function kind(hop: string): string {
  if (hop.startsWith("group ")) return "group of devices";
  return hop.includes(".") || hop.includes(":") ? "gateway or node" : "node";
}

function Devices({ steering }: { steering: Steering }) {
  const direction = steering.direction.replace("POLICY_DIRECTION_", "").toLowerCase();
  return (
    <div class="reason">
      <h3>devices</h3>
      <p>
        <Name>{steering.description}</Name>, by {direction} rule {steering.rule} of <Name>{steering.policy}</Name>
        {steering.node && (
          <>
            , on node <Name>{steering.node}</Name>
          </>
        )}
      </p>
      <ul>
        {steering.devices.map((each) => (
          <li>
            <Name>{each.device}</Name> ({each.outside && "inside "}
            <Name>{each.address}</Name> on <Name>{each.network}</Name>
            {each.outside && (
              <>
                , outside <Name>{each.outside.address}</Name> on <Name>{each.outside.network}</Name>
              </>
            )}
            ):{" "}
            <span class={each.up ? "" : "bad"}>{each.up ? "up" : "down"}</span>
            {each.drain && ", takes no new connections"}
          </li>
        ))}
      </ul>
      {steering.hops_back.length > 0 && (
        <p class="quiet">
          Answers go by <Name>{steering.hops_back.join(" > ")}</Name>
        </p>
      )}
    </div>
  );
}

function Gate({ title, verdict }: { title: string; verdict: Verdict }) {
  const action = does(verdict.action);
  return (
    <li class={`gate ${action}`}>
      <span class="what">{title}</span>
      <span>{action === "allow" ? "allowed" : "denied"}</span>
      {verdict.policy && <Name>{verdict.policy}</Name>}
    </li>
  );
}

function Reason({ title, verdict, decides }: { title: string; verdict: Verdict; decides: boolean }) {
  return (
    <div class="reason">
      <h3>
        {title}: {does(verdict.action)}
      </h3>
      <p>
        <Name>{verdict.reason}</Name>
      </p>
      {decides && verdict.otherwise.length > 0 && (
        <>
          <p>It would be otherwise if:</p>
          <ul>
            {verdict.otherwise.map((each) => (
              <li>
                <Name>{each}</Name>
              </li>
            ))}
          </ul>
        </>
      )}
      {verdict.asked.length > 0 && (
        <p class="quiet">
          Asked: <Name>{verdict.asked.join(", ")}</Name>
        </p>
      )}
      {verdict.audited.map((each) => (
        <p class="quiet">
          <Name>{each}</Name> would decide otherwise; it is only audited.
        </p>
      ))}
    </div>
  );
}
