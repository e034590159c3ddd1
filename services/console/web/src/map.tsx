// A part of a network: groups as nested bars, then equal cells, then single addresses.
import { useRef, useState } from "preact/hooks";
import { type AddressView, type Area, type Cell, type MapView, type Overview, useData, query } from "./data";
import { mapAddress, nodeAddress } from "./route";
import { Failure, moment, Name, number, owner, percent, plural, Table, UsageBar, Waiting } from "./parts";

export function MapPage({
  overview,
  network,
  prefix,
  mark,
}: {
  overview: Overview;
  network: string;
  prefix: string;
  mark: string;
}) {
  const path = `/api/map/${encodeURIComponent(network)}${query({ prefix })}`;
  const { value, error } = useData<MapView>(path, [`map/${network}`, "topology"]);
  return (
    <>
      <nav class="tabs" aria-label="Networks">
        {overview.networks.map((each) => (
          <a href={mapAddress(each.name)} aria-current={each.name === network ? "page" : undefined}>
            <Name>{each.name}</Name>
          </a>
        ))}
      </nav>
      {error && <Failure problem={error} />}
      {!value && !error && <Waiting what="the map" />}
      {value && <Drawn view={value} mark={mark} />}
    </>
  );
}

function Drawn({ view, mark }: { view: MapView; mark: string }) {
  return (
    <>
      <h1>
        <Name>{view.network}</Name> {view.prefix}
      </h1>
      <p class="crumbs">
        {view.prefix !== view.cidr && (
          <>
            <a href={mapAddress(view.network)}>All of {view.network}</a>
            {view.up && view.up !== view.cidr && (
              <>
                {" › "}
                <a href={mapAddress(view.network, view.up)}>{view.up}</a>
              </>
            )}
            {" › "}
            {view.prefix}
          </>
        )}
        {view.path.length > 0 && (
          <>
            {" in group "}
            <Name>{view.path[view.path.length - 1]}</Name>
          </>
        )}
      </p>
      <Figures view={view} />
      {view.areas.length > 0 && <Areas view={view} />}
      {view.cells.length > 0 && <Cells view={view} />}
      {view.addresses.length > 0 && <Addresses view={view} mark={mark} />}
      {view.blocks.length > 0 && <Blocks view={view} />}
      {view.block_count > view.blocks.length && (
        <p class="quiet">{plural(view.block_count, "block")} here: zoom in to see them by name.</p>
      )}
    </>
  );
}

function Figures({ view }: { view: MapView }) {
  const usage = view.usage;
  const items: [string, number][] = [
    ["used", usage.used],
    ["resting", usage.resting],
    ["reserved", usage.reserved],
    ["stranded", usage.stranded],
    ["free", usage.free],
  ];
  return (
    <div class="figures">
      <UsageBar usage={usage} label={view.prefix} />
      <dl class="legend">
        {items.map(([name, value]) => (
          <div>
            <dt>
              <span class={`swatch ${name}`} aria-hidden="true" />
              {name === "used" ? "in use" : name}
            </dt>
            <dd>
              {number(value)} <span class="quiet">({percent(value, usage.size)})</span>
            </dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

function forecast(area: Area): string {
  const known = area.forecast;
  if (!known || known.hours === null || known.hours > 24 * 90) return "";
  const time =
    known.hours < 1
      ? `${Math.ceil(known.hours * 60)} min`
      : known.hours < 48
        ? `${Math.round(known.hours)} h`
        : `${Math.round(known.hours / 24)} days`;
  return `full in ${time} at the rate of the last ${Math.max(1, Math.round(known.over / 60))} min`;
}

function describe(area: Area): string {
  const usage = area.usage;
  return [
    area.path && area.prefix ? area.path : area.name,
    area.prefix,
    `${percent(usage.used, usage.size)} in use, ${number(usage.free)} free`,
    plural(area.nodes, "node"),
    forecast(area),
  ]
    .filter(Boolean)
    .join(" · ");
}

function Areas({ view }: { view: MapView }) {
  const depths = [...new Set(view.areas.map((area) => area.depth))].sort((a, b) => a - b);
  const soon = view.areas.filter((area) => forecast(area));
  return (
    <section aria-labelledby="groups">
      <h2 id="groups">Prefix groups</h2>
      <div class="icicle">
        {depths.map((depth) => (
          <div class="row">
            {view.areas
              .filter((area) => area.depth === depth)
              .map((area) => (
                <GroupBar view={view} area={area} />
              ))}
          </div>
        ))}
      </div>
      {soon.length > 0 && (
        <ul class="forecasts">
          {soon.map((area) => (
            <li>
              <Name>{area.path}</Name>: {forecast(area)}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function GroupBar({ view, area }: { view: MapView; area: Area }) {
  const place = { left: `${area.begin * 100}%`, width: `${(area.end - area.begin) * 100}%` };
  const content = (
    <>
      <span class="title">
        <Name>{area.name}</Name>
      </span>
      <UsageBar usage={area.usage} label={area.name} />
    </>
  );
  if (!area.prefix) {
    return (
      <span class="group run" style={place} title={describe(area)}>
        {content}
      </span>
    );
  }
  return (
    <a class="group" style={place} href={mapAddress(view.network, area.prefix)} title={describe(area)}>
      {content}
    </a>
  );
}

// Arrow keys go about in a grid of links; only one of them is in the order of the Tab key.
function useGrid(count: number, columns: number) {
  const [at, setAt] = useState(0);
  const grid = useRef<HTMLDivElement>(null);
  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Record<string, number> = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: columns,
      ArrowUp: -columns,
    };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = Math.min(count - 1, Math.max(0, Math.min(at, count - 1) + step));
    setAt(next);
    (grid.current?.children[next] as HTMLElement | undefined)?.focus();
  };
  return { at: Math.min(at, count - 1), setAt, grid, onKeyDown };
}

const COLUMNS = 16;

function Cells({ view }: { view: MapView }) {
  const { at, setAt, grid, onKeyDown } = useGrid(view.cells.length, COLUMNS);
  return (
    <section aria-labelledby="cells">
      <h2 id="cells">
        Equal parts of {number(view.cells[0]?.[1] ?? 0)} addresses, from {view.cells[0]?.[0]}
      </h2>
      <div class="cells" ref={grid} onKeyDown={onKeyDown}>
        {view.cells.map((cell, place) => (
          <CellLink view={view} cell={cell} tab={place === at} onFocus={() => setAt(place)} />
        ))}
      </div>
    </section>
  );
}

function CellLink({
  view,
  cell,
  tab,
  onFocus,
}: {
  view: MapView;
  cell: Cell;
  tab: boolean;
  onFocus: () => void;
}) {
  const [prefix, size, used, resting, reserved, held, stranded] = cell;
  const share = (value: number) => `${Math.min(100, (100 * value) / size)}%`;
  const text =
    `${prefix}: ${number(used)} of ${number(size)} in use, ${number(held)} in blocks, ` +
    `${number(resting)} resting, ${number(reserved)} reserved` +
    (stranded ? `, ${number(stranded)} stranded` : "");
  return (
    <a
      class={`cell${stranded ? " has-stranded" : ""}${held ? " has-held" : ""}`}
      href={mapAddress(view.network, prefix)}
      aria-label={text}
      title={text}
      tabIndex={tab ? 0 : -1}
      onFocus={onFocus}
    >
      {used > 0 && <span class="used" style={{ height: share(used) }} />}
      {resting > 0 && <span class="resting" style={{ height: share(resting) }} />}
      {reserved > 0 && <span class="reserved" style={{ height: share(reserved) }} />}
    </a>
  );
}

function said(view: MapView, each: AddressView): string {
  const node = view.node_addresses[each.address];
  if (each.address === view.gateway) return "the gateway";
  if (node) return `node ${node} itself`;
  if (each.name) return `${each.name} on ${each.node}, ${owner(each.tenant, each.segment)}, since ${moment(each.since)}`;
  if (each.state === "reserved") return "reserved";
  if (each.state === "held") return `not in use, in block ${each.block} of ${each.node}`;
  return "free";
}

function Addresses({ view, mark }: { view: MapView; mark: string }) {
  const marked = view.addresses.findIndex((each) => each.address === mark);
  const [chosen, choose] = useState<string>(mark);
  const { at, setAt, grid, onKeyDown } = useGrid(view.addresses.length, COLUMNS);
  const shown = view.addresses.find((each) => each.address === chosen);
  return (
    <section aria-labelledby="addresses">
      <h2 id="addresses">Every address</h2>
      <div class="cells addresses" ref={grid} onKeyDown={onKeyDown}>
        {view.addresses.map((each, place) => {
          const own = each.address === view.gateway || each.address in view.node_addresses;
          const text = `${each.address}: ${said(view, each)}`;
          return (
            <button
              type="button"
              class={`cell ${own ? "own" : each.state}${each.address === chosen ? " chosen" : ""}`}
              aria-label={text}
              aria-pressed={each.address === chosen}
              title={text}
              tabIndex={place === (marked >= 0 && at === 0 ? marked : at) ? 0 : -1}
              onFocus={() => setAt(place)}
              onClick={() => choose(each.address)}
            />
          );
        })}
      </div>
      <p class="said" role="status">
        {shown ? (
          <>
            <code>{shown.address}</code> <Name>{said(view, shown)}</Name>
          </>
        ) : (
          <span class="quiet">Choose an address to see who has it.</span>
        )}
      </p>
    </section>
  );
}

function Blocks({ view }: { view: MapView }) {
  return (
    <section aria-labelledby="blocks">
      <h2 id="blocks">Blocks</h2>
      <Table caption="Blocks" columns={["Block", "Node", "Owner", "In use", "Resting", ""]}>
        {view.blocks.map((block) => (
          <tr>
            <td>
              <a href={mapAddress(view.network, block.prefix)}>{block.prefix}</a>
            </td>
            <td>
              <a href={nodeAddress(block.node)}>
                <Name>{block.node}</Name>
              </a>
            </td>
            <td>
              <Name>{owner(block.tenant, block.segment)}</Name>
            </td>
            <td class="right">{number(block.used)}</td>
            <td class="right">{number(block.resting)}</td>
            <td>{block.stranded && <strong class="bad">stranded</strong>}</td>
          </tr>
        ))}
      </Table>
    </section>
  );
}
