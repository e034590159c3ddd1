// Who reaches whom: by tenant and segment, then by endpoint; a cell leads to the explanation.
import type { ComponentChildren } from "preact";
import { ConnectionFields, type ConnectionValues, useConnection } from "./connection";
import { query, useData } from "./data";
import { go } from "./route";
import { Failure, Name, number, owner, plural, Waiting } from "./parts";

interface ByOwner {
  by: "owner";
  owners: { tenant: string; segment: string; asked: number; endpoints: number | null }[];
  rows: [number, number][][];
  more: boolean;
  unrealized_nodes: string[];
}

interface ByEndpoint {
  by: "endpoint";
  columns: string[];
  rows: { name: string; cells: string[] }[];
  more: boolean;
  unrealized_nodes: string[];
}

export function ReachView({ query: chosen }: { query: URLSearchParams }) {
  const values = Object.fromEntries(
    ["tenant", "segment", "to_tenant", "to_segment", "protocol", "port"].map((name) => [name, chosen.get(name) ?? ""]),
  );
  const { value, error } = useData<ByOwner | ByEndpoint>(`/api/matrix${query(values)}`, ["policies", "map", "nodes"]);
  const connection = useConnection(chosen);
  return (
    <>
      {values["tenant"] && (
        <p class="crumbs">
          <a href={`/reach${query(connection.values)}`}>All tenants</a> ›{" "}
          <Name>{owner(values["tenant"] ?? "", values["segment"] ?? "")}</Name> to{" "}
          <Name>{owner(values["to_tenant"] ?? "", values["to_segment"] ?? "")}</Name>
        </p>
      )}
      <h1>Who reaches whom</h1>
      <form
        class="filter"
        onSubmit={(event) => {
          event.preventDefault();
          go(`/reach${query({ ...values, ...connection.values })}`);
        }}
      >
        <ConnectionFields connection={connection} />
        <button type="submit">Show</button>
      </form>
      {error && <Failure problem={error} />}
      {!value && !error && <Waiting what="policies" />}
      {value?.by === "owner" && <Owners value={value} of={connection.values} />}
      {value?.by === "endpoint" && <Endpoints value={value} of={connection.values} />}
      {value && value.unrealized_nodes.length > 0 && (
        <p class="bad">
          Not yet applied by <Name>{value.unrealized_nodes.slice(0, 10).join(", ")}</Name>
        </p>
      )}
    </>
  );
}

function Owners({ value, of }: { value: ByOwner; of: ConnectionValues }) {
  if (!value.owners.length) return <p>No endpoint is attached yet.</p>;
  const names = value.owners.map((each) => owner(each.tenant, each.segment));
  return (
    <>
      <p class="quiet">
        Rows reach columns. {value.more ? "Some owners are left out. " : ""}Of each owner a few endpoints are asked
        for, those with different labels first; choose a cell to see them all.
      </p>
      <Matrix
        caption="Which tenants reach which"
        columns={names}
        rows={value.rows.map((row, from) => ({
          name: names[from] ?? "",
          beside: value.owners[from]?.endpoints == null ? "" : number(value.owners[from]?.endpoints ?? 0),
          cells: row.map(([allowed, pairs], to) => (
            <a
              class={`verdict ${verdict(allowed, pairs)}`}
              href={`/reach${query({
                tenant: value.owners[from]?.tenant,
                segment: value.owners[from]?.segment,
                to_tenant: value.owners[to]?.tenant,
                to_segment: value.owners[to]?.segment,
                ...of,
              })}`}
              title={`${names[from]} to ${names[to]}: ${allowed} of ${plural(pairs, "pair")} allowed`}
            >
              {word(allowed, pairs)}
            </a>
          )),
        }))}
      />
    </>
  );
}

function verdict(allowed: number, pairs: number): string {
  if (!pairs) return "none";
  if (allowed === pairs) return "allow";
  return allowed ? "some" : "deny";
}

function word(allowed: number, pairs: number): string {
  return { none: "–", allow: "yes", some: "some", deny: "no" }[verdict(allowed, pairs)] ?? "";
}

function Endpoints({ value, of }: { value: ByEndpoint; of: ConnectionValues }) {
  if (!value.rows.length || !value.columns.length) return <p>There are no such endpoints.</p>;
  return (
    <>
      <p class="quiet">Rows reach columns. {value.more ? "The first 200 of either side." : ""}</p>
      <Matrix
        caption="Which endpoints reach which"
        columns={value.columns}
        rows={value.rows.map((row) => ({
          name: row.name,
          beside: "",
          cells: row.cells.map((cell, place) => {
            const to = value.columns[place];
            if (row.name === to) return "·";
            return (
              <a
                class={`verdict ${cell}`}
                href={`/explain${query({ source: row.name, destination: to, ...of })}`}
                title={`${row.name} to ${to}: ${cell}`}
              >
                {{ allow: "yes", deny: "no" }[cell] ?? "–"}
              </a>
            );
          }),
        }))}
      />
    </>
  );
}

interface Row {
  name: string;
  beside: string;
  cells: ComponentChildren[];
}

function Matrix({ caption, columns, rows }: { caption: string; columns: string[]; rows: Row[] }) {
  return (
    <div class="scroll">
      <table class="matrix">
        <caption class="hidden">{caption}</caption>
        <thead>
          <tr>
            <td />
            {columns.map((name) => (
              <th scope="col">
                <Name>{name}</Name>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr>
              <th scope="row">
                <Name>{row.name}</Name> {row.beside && <span class="quiet">{row.beside}</span>}
              </th>
              {row.cells.map((cell) => (
                <td>{cell}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
