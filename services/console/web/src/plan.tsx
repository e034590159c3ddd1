// What a topology file would change, drawn before anything is done.
import { useEffect, useState } from "preact/hooks";
import { get, type Network, post, type Problem, Refused } from "./data";
import { mapAddress, nodeAddress } from "./route";
import { Failure, Name, number, plural, Table } from "./parts";

interface Plan {
  networks: { network: string; kind: string; fields: string[] }[];
  groups: { group: string; network: string; kind: string; before: string; after: string }[];
  nodes: { node: string; topology: string; before: string; after: string }[];
  stranded: { network: string; block: string; node: string; used: number }[];
  stranded_addresses: number;
}

interface Planned {
  plan: Plan;
  etag: string;
}

const READ_MOST = 8 << 20;

export function PlanView({ allowed, networks }: { allowed: boolean; networks: Network[] }) {
  const [text, setText] = useState("");
  const [current, setCurrent] = useState<{ text: string; etag: string } | null>(null);
  const [planned, setPlanned] = useState<{ text: string; answer: Planned } | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [said, say] = useState("");
  const [busy, setBusy] = useState(false);

  const load = async () => {
    try {
      const found = await get<{ text: string; etag: string }>("/api/topology");
      setCurrent(found);
      return found;
    } catch (error) {
      setProblem(problemOf(error));
      return null;
    }
  };
  useEffect(() => {
    void load().then((found) => found && setText((before) => before || found.text));
  }, []);

  const work = async (what: () => Promise<void>) => {
    setBusy(true);
    setProblem(null);
    say("");
    try {
      await what();
    } catch (error) {
      setProblem(problemOf(error));
    }
    setBusy(false);
  };
  const plan = () =>
    work(async () => {
      setPlanned(null);
      const before = await load();
      const answer = await post<Planned>("/api/plan", { text });
      setPlanned({ text, answer: { ...answer, etag: before?.etag ?? "" } });
    });
  const apply = () =>
    work(async () => {
      if (!planned || !confirm("Apply this topology to the cluster?")) return;
      await post("/api/apply", { text: planned.text, etag: planned.answer.etag });
      setPlanned(null);
      say("It is applied. The changes on their way are under Changes.");
      await load();
    });
  const read = async (file: File | undefined) => {
    if (!file) return;
    if (file.size > READ_MOST) {
      setProblem({ reason: "", message: `${file.name} has more than 8 MiB`, violations: [] });
      return;
    }
    setText(await file.text());
    setPlanned(null);
  };

  return (
    <>
      <h1>Plan a topology</h1>
      <p class="quiet">
        Edit the file, or drop another one here. Nothing is done before you apply it
        {allowed ? "" : "; this console only plans"}.
      </p>
      <label class="hidden" for="file">
        Topology file
      </label>
      <textarea
        id="file"
        rows={18}
        spellcheck={false}
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setPlanned(null);
        }}
        onDragOver={(event) => event.preventDefault()}
        onDrop={(event) => {
          event.preventDefault();
          void read(event.dataTransfer?.files[0]);
        }}
      />
      <div class="filter">
        <button type="button" disabled={busy || !text.trim()} onClick={() => void plan()}>
          Plan
        </button>
        <label class="button">
          Open a file
          <input
            class="hidden"
            type="file"
            accept=".yaml,.yml,.json"
            onChange={(event) => void read(event.currentTarget.files?.[0])}
          />
        </label>
        <button type="button" disabled={busy || !current} onClick={() => current && setText(current.text)}>
          As it is now
        </button>
        {allowed && (
          <button type="button" class="danger" disabled={busy || !planned || planned.answer.plan.stranded_addresses > 0} onClick={() => void apply()}>
            Apply
          </button>
        )}
      </div>
      {problem && <Failure problem={problem} />}
      <p role="status">{said}</p>
      {planned && <Drawn plan={planned.answer.plan} networks={networks} />}
    </>
  );
}

function problemOf(error: unknown): Problem {
  if (error instanceof Refused) return error.problem;
  return { reason: "", message: "the console does not answer", violations: [] };
}

function word(kind: string): string {
  return kind.replace("CHANGE_KIND_", "").toLowerCase();
}

function Drawn({ plan, networks }: { plan: Plan; networks: Network[] }) {
  const nothing = !plan.networks.length && !plan.groups.length && !plan.nodes.length;
  if (nothing) return <p class="said">Nothing would change.</p>;
  const concerned = [...new Set(plan.groups.map((each) => each.network))];
  return (
    <section class="plan" aria-labelledby="plan">
      <h2 id="plan">What it would change</h2>
      {plan.stranded_addresses > 0 && (
        <p class="bad" role="alert">
          {plural(plan.stranded_addresses, "address", "addresses")} in use would be stranded: it is refused unless forced
          by <code>romana topology apply --allow-stranded</code>.
        </p>
      )}
      {plan.networks.length > 0 && (
        <ul>
          {plan.networks.map((each) => (
            <li>
              network <Name>{each.network}</Name> {word(each.kind)}
              {each.fields.length > 0 && `: ${each.fields.join(", ")}`}
            </li>
          ))}
        </ul>
      )}
      {concerned.map((name) => (
        <NetworkPlan
          name={name}
          cidr={networks.find((each) => each.name === name)?.cidr ?? ""}
          groups={plan.groups.filter((each) => each.network === name)}
        />
      ))}
      {plan.nodes.length > 0 && (
        <>
          <h3>{plural(plan.nodes.length, "node")} would move</h3>
          <Table caption="Nodes that move" columns={["Node", "From", "To"]}>
            {plan.nodes.slice(0, 200).map((each) => (
              <tr>
                <td>
                  <a href={nodeAddress(each.node)}>
                    <Name>{each.node}</Name>
                  </a>
                </td>
                <td>
                  <Name>{each.before || "no group"}</Name>
                </td>
                <td>
                  <Name>{each.after || "no group"}</Name>
                </td>
              </tr>
            ))}
          </Table>
        </>
      )}
      {plan.stranded.length > 0 && (
        <>
          <h3>Blocks that would be stranded</h3>
          <Table caption="Stranded blocks" columns={["Block", "Network", "Node", "In use"]}>
            {plan.stranded.slice(0, 200).map((each) => (
              <tr>
                <td>
                  <a href={mapAddress(each.network, each.block)}>{each.block}</a>
                </td>
                <td>
                  <Name>{each.network}</Name>
                </td>
                <td>
                  <Name>{each.node}</Name>
                </td>
                <td class="right">{number(each.used)}</td>
              </tr>
            ))}
          </Table>
        </>
      )}
    </section>
  );
}

// Before above, after below, each prefix at its place in the network.
function NetworkPlan({ name, cidr, groups }: { name: string; cidr: string; groups: Plan["groups"] }) {
  const whole = range(cidr) ?? around(groups.flatMap((each) => [each.before, each.after]));
  const bars = (side: "before" | "after") =>
    groups
      .filter((each) => each[side])
      .map((each) => {
        const part = range(each[side]);
        if (!part || !whole) return null;
        const left = Number(((part.first - whole.first) * 10000n) / whole.size) / 100;
        const width = Math.max(0.3, Number((part.size * 10000n) / whole.size) / 100);
        const text = `${each.group} ${word(each.kind)}: ${each.before || "nothing"} → ${each.after || "nothing"}`;
        return (
          <span
            class={`group ${word(each.kind)}`}
            style={{ left: `${left}%`, width: `${width}%` }}
            title={text}
            role="img"
            aria-label={text}
          >
            <span class="title">
              <Name>{each.group.slice(each.group.lastIndexOf("/") + 1)}</Name>
            </span>
          </span>
        );
      });
  return (
    <>
      <h3>
        <Name>{name}</Name> {cidr}
      </h3>
      <div class="icicle before-after">
        <div class="row" aria-label="before">
          {bars("before")}
        </div>
        <div class="row" aria-label="after">
          {bars("after")}
        </div>
      </div>
      <Table caption={`Groups of ${name}`} columns={["Group", "", "Before", "After"]}>
        {groups.slice(0, 200).map((each) => (
          <tr>
            <td>
              <Name>{each.group}</Name>
            </td>
            <td>
              <span class={`kind ${word(each.kind)}`}>{word(each.kind)}</span>
            </td>
            <td>{each.before}</td>
            <td>{each.after}</td>
          </tr>
        ))}
      </Table>
    </>
  );
}

// From the first address of all to the last: of a network that is new.
function around(prefixes: string[]): { first: bigint; size: bigint } | null {
  const parts = prefixes.map(range).filter((each) => each !== null);
  if (!parts.length) return null;
  const first = parts.reduce((least, each) => (each.first < least ? each.first : least), parts[0]!.first);
  const end = parts.reduce((most, each) => (each.first + each.size > most ? each.first + each.size : most), 0n);
  return { first, size: end - first };
}

// A prefix as its first address and its size; null: it is none.
function range(prefix: string): { first: bigint; size: bigint } | null {
  const [address, length] = prefix.split("/");
  if (!address || !length) return null;
  if (!address.includes(":")) {
    const first = address.split(".").reduce((sum, part) => sum * 256n + BigInt(part), 0n);
    return { first, size: 1n << BigInt(32 - Number(length)) };
  }
  const [head = "", tail] = address.split("::");
  const left = head.split(":").filter(Boolean);
  const right = (tail ?? "").split(":").filter(Boolean);
  const middle = Array<string>(tail === undefined ? 0 : 8 - left.length - right.length).fill("0");
  const first = [...left, ...middle, ...right].reduce((sum, part) => sum * 65536n + BigInt(`0x${part}`), 0n);
  return { first, size: 1n << BigInt(128 - Number(length)) };
}
