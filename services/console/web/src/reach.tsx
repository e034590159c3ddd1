// Who reaches whom: by tenant and segment, then by endpoint; a cell leads to the explanation.
import { useState } from "preact/hooks";
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

const PROTOCOLS = ["", "tcp", "udp", "sctp", "icmp", "icmpv6"];

export function ConnectionFields({
  protocol,
  port,
  onChange,
}: {
  protocol: string;
  port: string;
  onChange: (protocol: string, port: string) => void;
}) {
  return (
    <>
      <label>
        Protocol{" "}
        <select value={protocol} onChange={(event) => onChange(event.currentTarget.value, port)}>
          {PROTOCOLS.map((each) => (
            <option value={each}>{each || "any"}</option>
          ))}
        </select>
      </label>
      <label>
        Port{" "}
        <input
          type="number"
          min={0}
          max={65535}
          value={port}
          onInput={(event) => onChange(protocol, event.currentTarget.value)}
        />
      </label>
    </>
  );
}

export function ReachView({ query: chosen }: { query: URLSearchParams }) {
  const values = Object.fromEntries(
    ["tenant", "segment", "to_tenant", "to_segment", "protocol", "port"].map((name) => [name, chosen.get(name) ?? ""]),
  );
  const { value, error } = useData<ByOwner | ByEndpoint>(`/api/matrix${query(values)}`, ["policies", "map", "nodes"]);
  const [protocol, setProtocol] = useState(values["protocol"] ?? "");
  const [port, setPort] = useState(values["port"] ?? "");
  return (
    <>
      {values["tenant"] && (
        <p class="crumbs">
          <a href={`/reach${query({ protocol, port })}`}>All tenants</a> ›{" "}
          <Name>{owner(values["tenant"] ?? "", values["segment"] ?? "")}</Name> to{" "}
          <Name>{owner(values["to_tenant"] ?? "", values["to_segment"] ?? "")}</Name>
        </p>
      )}
      <h1>Who reaches whom</h1>
      <form
        class="filter"
        onSubmit={(event) => {
          event.preventDefault();
          go(`/reach${query({ ...values, protocol, port })}`);
        }}
      >
        <ConnectionFields
          protocol={protocol}
          port={port}
          onChange={(newProtocol, newPort) => {
            setProtocol(newProtocol);
            setPort(newPort);
          }}
        />
        <button type="submit">Show</button>
      </form>
      {error && <Failure problem={error} />}
      {!value && !error && <Waiting what="policies" />}
      {value?.by === "owner" && <Owners value={value} protocol={protocol} port={port} />}
      {value?.by === "endpoint" && <Endpoints value={value} protocol={protocol} port={port} />}
      {value && value.unrealized_nodes.length > 0 && (
        <p class="bad">
          Not yet applied by <Name>{value.unrealized_nodes.slice(0, 10).join(", ")}</Name>
        </p>
      )}
    </>
  );
}

function Owners({ value, protocol, port }: { value: ByOwner; protocol: string; port: string }) {
  if (!value.owners.length) return <p>No endpoint is attached yet.</p>;
  const names = value.owners.map((each) => owner(each.tenant, each.segment));
  return (
    <>
      <p class="quiet">
        Rows reach columns. {value.more ? "Some owners are left out. " : ""}Of each owner a few endpoints are asked
        for, those with different labels first; choose a cell to see them all.
      </p>
      <div class="scroll">
        <table class="matrix">
          <caption class="hidden">Which tenants reach which</caption>
          <thead>
            <tr>
              <td />
              {names.map((name) => (
                <th scope="col">
                  <Name>{name}</Name>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {value.rows.map((row, from) => (
              <tr>
                <th scope="row">
                  <Name>{names[from]}</Name>{" "}
                  <span class="quiet">
                    {value.owners[from]?.endpoints === null ? "" : number(value.owners[from]?.endpoints ?? 0)}
                  </span>
                </th>
                {row.map(([allowed, pairs], to) => (
                  <td>
                    <a
                      class={`verdict ${verdict(allowed, pairs)}`}
                      href={`/reach${query({
                        tenant: value.owners[from]?.tenant,
                        segment: value.owners[from]?.segment,
                        to_tenant: value.owners[to]?.tenant,
                        to_segment: value.owners[to]?.segment,
                        protocol,
                        port,
                      })}`}
                      title={`${names[from]} to ${names[to]}: ${allowed} of ${plural(pairs, "pair")} allowed`}
                    >
                      {word(allowed, pairs)}
                    </a>
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
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

function Endpoints({ value, protocol, port }: { value: ByEndpoint; protocol: string; port: string }) {
  if (!value.rows.length || !value.columns.length) return <p>There are no such endpoints.</p>;
  return (
    <>
      <p class="quiet">Rows reach columns. {value.more ? "The first 200 of either side." : ""}</p>
      <div class="scroll">
        <table class="matrix">
          <caption class="hidden">Which endpoints reach which</caption>
          <thead>
            <tr>
              <td />
              {value.columns.map((name) => (
                <th scope="col">
                  <Name>{name}</Name>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {value.rows.map((row) => (
              <tr>
                <th scope="row">
                  <Name>{row.name}</Name>
                </th>
                {row.cells.map((cell, place) => (
                  <td>
                    {row.name === value.columns[place] ? (
                      "·"
                    ) : (
                      <a
                        class={`verdict ${cell}`}
                        href={`/explain${query({ source: row.name, destination: value.columns[place], protocol, port })}`}
                        title={`${row.name} to ${value.columns[place]}: ${cell}`}
                      >
                        {{ allow: "yes", deny: "no" }[cell] ?? "–"}
                      </a>
                    )}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
