import { render } from "preact";
import { useState } from "preact/hooks";
import { connect, type Overview, useConnected, useData } from "./data";
import { followLinks, go, mapAddress, usePlace } from "./route";
import { Failure, Name, percent, plural, UsageBar } from "./parts";
import { ChangesView } from "./changes";
import { DeniedView } from "./denied";
import { ExplainView } from "./explain";
import { MapPage } from "./map";
import { NodePage, NodesView } from "./nodes";
import { PlanView } from "./plan";
import { ReachView } from "./reach";
import { SearchResults } from "./search";
import "./style.css";

const VIEWS = [
  ["/", "Map"],
  ["/plan", "Plan"],
  ["/reach", "Who reaches whom"],
  ["/changes", "Changes"],
  ["/nodes", "Nodes"],
  ["/denied", "Denied"],
] as const;

function App() {
  const place = usePlace();
  const overview = useData<Overview>("/api/overview", ["services", "topology", "map", "policies", "changes"]);
  const connected = useConnected();
  const value = overview.value;
  return (
    <>
      <a class="skip" href="#view">
        To the view
      </a>
      <header>
        <a class="brand" href="/">
          Romana
        </a>
        <nav aria-label="Views">
          {VIEWS.map(([path, title]) => (
            <a href={path} aria-current={isCurrent(path, place.path) ? "page" : undefined}>
              {title}
              {path === "/changes" && value && value.pending > 0 && (
                <span class="badge" title={`${plural(value.pending, "change")} on the way`}>
                  {value.pending}
                </span>
              )}
            </a>
          ))}
        </nav>
        <Search text={place.path === "/search" ? (place.query.get("q") ?? "") : ""} />
      </header>
      <Health overview={value} connected={connected} failed={overview.error !== null} />
      <main id="view" tabIndex={-1}>
        {overview.error && !value && <Failure problem={overview.error} />}
        {value && <View overview={value} path={place.path} query={place.query} />}
      </main>
      {value && (
        <footer>
          Romana {value.version}
          {value.caller && (
            <>
              {" · "}
              <Name>{value.caller}</Name>
            </>
          )}
          {value.allow_changes ? "" : " · shows, and changes nothing"}
        </footer>
      )}
    </>
  );
}

function View({ overview, path, query }: { overview: Overview; path: string; query: URLSearchParams }) {
  const parts = path.split("/").filter(Boolean).map(decode);
  switch (parts[0]) {
    case undefined:
      return <Networks overview={overview} />;
    case "map":
      return (
        <MapPage
          overview={overview}
          network={parts[1] ?? ""}
          prefix={query.get("prefix") ?? ""}
          mark={query.get("mark") ?? ""}
        />
      );
    case "plan":
      return <PlanView allowed={overview.allow_changes} networks={overview.networks} />;
    case "reach":
      return <ReachView query={query} />;
    case "explain":
      return <ExplainView query={query} />;
    case "changes":
      return <ChangesView />;
    case "nodes":
      return parts[1] ? <NodePage name={parts[1]} /> : <NodesView query={query} />;
    case "denied":
      return <DeniedView />;
    case "search":
      return <SearchResults text={query.get("q") ?? ""} />;
    default:
      return <h1>There is no such view</h1>;
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function isCurrent(view: string, path: string): boolean {
  if (view === "/") return path === "/" || path.startsWith("/map/");
  if (view === "/reach" && path.startsWith("/explain")) return true;
  return path === view || path.startsWith(`${view}/`);
}

function Search({ text }: { text: string }) {
  const [typed, type] = useState(text);
  return (
    <form
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        if (typed.trim()) go(`/search?q=${encodeURIComponent(typed.trim())}`);
      }}
    >
      <label class="hidden" for="search">
        Address, name, node, group or tenant
      </label>
      <input
        id="search"
        type="search"
        placeholder="Address, name, node, tenant"
        maxLength={256}
        value={typed}
        onInput={(event) => type(event.currentTarget.value)}
      />
    </form>
  );
}

// What is wrong with what is shown; nothing if all is well.
function Health({
  overview,
  connected,
  failed,
}: {
  overview: Overview | null;
  connected: boolean;
  failed: boolean;
}) {
  const lines: string[] = [];
  if (!connected && (overview || failed)) lines.push("The console does not answer: what is shown is of before.");
  for (const each of overview?.services ?? []) {
    if (!each.serving) lines.push(`${each.service} at ${each.address} does not serve: ${each.problem}`);
    if (each.unreadable) lines.push(`${each.service} cannot read ${plural(each.unreadable, "record")} of the store.`);
  }
  for (const [watch, why] of Object.entries(overview?.lost ?? {})) {
    lines.push(`What is shown of ${watch} is of before: ${why}`);
  }
  if (overview && !overview.known && !lines.length) lines.push("Not everything has been read yet.");
  return (
    <div class="health" role="status" aria-live="polite">
      {lines.map((line) => (
        <p>{line}</p>
      ))}
    </div>
  );
}

function Networks({ overview }: { overview: Overview }) {
  return (
    <>
      <h1>Networks</h1>
      {overview.networks.length === 0 && (
        <p>
          There is no network yet. <a href="/plan">Plan a topology</a>, or run{" "}
          <code>romana topology apply FILE</code>.
        </p>
      )}
      <ul class="cards">
        {overview.networks.map((network, place) => (
          <li class={`card network-${place % 8}`}>
            <a href={mapAddress(network.name)}>
              <h2>
                <Name>{network.name}</Name>
              </h2>
              <p>
                {network.cidr}
                {network.vlan_id ? ` · VLAN ${network.vlan_id}` : ""}
              </p>
              <UsageBar usage={network.usage} label={network.name} />
              <p>
                {percent(network.usage.used, network.usage.size)} in use ·{" "}
                {plural(network.usage.used, "address", "addresses")}
              </p>
              {network.tenants.length > 0 && (
                <p class="quiet">
                  for <Name>{network.tenants.slice(0, 3).join(", ")}</Name>
                  {network.tenants.length > 3 && ` and ${network.tenants.length - 3} more`}
                </p>
              )}
            </a>
          </li>
        ))}
      </ul>
      <p class="quiet">
        <a href="/nodes">{plural(overview.nodes, "node")}</a> · {plural(overview.policies, "policy", "policies")}
      </p>
    </>
  );
}

followLinks();
connect();
const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  render(<App />, root);
}
