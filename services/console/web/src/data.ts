// What the console's server says, and how a view gets it: once, and again whenever it changed.
import { useEffect, useState } from "preact/hooks";

export interface Usage {
  size: number;
  used: number;
  resting: number;
  reserved: number;
  held: number;
  stranded: number;
  free: number;
}

export interface Service {
  service: string;
  address: string;
  serving: boolean;
  problem: string;
  version: string;
  role: string;
  revision: number;
  unreadable: number;
}

export interface Network {
  name: string;
  cidr: string;
  vlan_id: number;
  gateway: string;
  topology: string;
  tenants: string[];
  usage: Usage;
}

export interface Overview {
  version: string;
  allow_changes: boolean;
  caller: string;
  known: boolean;
  services: Service[];
  lost: Record<string, string>;
  networks: Network[];
  nodes: number;
  policies: number;
  pending: number;
}

export interface Forecast {
  per_hour: number;
  hours: number | null;
  over: number;
}

export interface Area {
  name: string;
  path: string;
  prefix: string;
  depth: number;
  groups: number;
  nodes: number;
  begin: number;
  end: number;
  usage: Usage;
  forecast: Forecast | null;
}

export interface Block {
  prefix: string;
  node: string;
  tenant: string;
  segment: string;
  group: string;
  used: number;
  resting: number;
  stranded: boolean;
}

export interface AddressView {
  address: string;
  state: "used" | "reserved" | "held" | "stranded" | "free";
  name: string;
  node: string;
  tenant: string;
  segment: string;
  since: string;
  block: string;
}

// prefix, size, used, resting, reserved, held, stranded
export type Cell = [string, number, number, number, number, number, number];

export interface MapView {
  network: string;
  cidr: string;
  prefix: string;
  up: string;
  usage: Usage;
  path: string[];
  cells: Cell[];
  areas: Area[];
  blocks: Block[];
  block_count: number;
  addresses: AddressView[];
  gateway: string;
  node_addresses: Record<string, string>;
}

export interface Found {
  kind: string;
  title: string;
  detail: string;
  network?: string;
  prefix?: string;
  node?: string;
  tenant?: string;
}

export interface Change {
  number: number;
  kind: string;
  what: string;
  details: string[];
  revision: number;
  noticed: number;
  authors: { revision: number; service: string; identity: string; client: string }[];
  needed: number | null;
  applied: number;
  lagging: { node: string; reason: string }[];
  seconds: number | null;
}

export interface Changes {
  changes: Change[];
  latency: { changes: number; p50: number; p99: number } | null;
}

export interface NodeRow {
  name: string;
  addresses: string[];
  networks: string[];
  groups: string[];
  state: string;
  version: string;
  applied: number | null;
  failures: string[];
  heard: string;
}

export interface NodeList {
  counts: Record<string, number>;
  total: number;
  page: number;
  pages: number;
  nodes: NodeRow[];
}

export interface EnforcedRule {
  subject: string;
  direction: string;
  tier: string;
  policy: string;
  rule: string;
  action: string;
  peers: string;
  ports: string;
}

export interface Route {
  network: string;
  prefix: string;
  node: string;
  next_hop: string;
}

export interface Problem {
  reason: string;
  message: string;
  violations: { path: string; message: string }[];
}

export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
  }
}

async function read<T>(answer: Response): Promise<T> {
  const body: unknown = await answer.json().catch(() => null);
  if (answer.ok && body !== null) return body as T;
  const problem = (body ?? {}) as Partial<Problem>;
  throw new Refused({
    reason: problem.reason ?? String(answer.status),
    message: problem.message ?? `the console answers ${answer.status}`,
    violations: problem.violations ?? [],
  });
}

export async function get<T>(path: string): Promise<T> {
  return read<T>(await fetch(path, { headers: { Accept: "application/json" } }));
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  return read<T>(
    await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Romana-Console": "1" },
      body: JSON.stringify(body),
    }),
  );
}

export function query(values: Record<string, string | number | undefined>): string {
  const pairs = Object.entries(values).filter(([, value]) => value !== undefined && value !== "");
  const text = new URLSearchParams(pairs.map(([name, value]) => [name, String(value)])).toString();
  return text && `?${text}`;
}

// One stream of events for the whole page. A browser opens it again by itself; then everything is
// asked for anew, since nobody knows what was missed.
type Listener = (topics: string[] | null) => void;
const listeners = new Set<Listener>();
const connection = new Set<(up: boolean) => void>();
let up = false;

export function connect(): void {
  const source = new EventSource("/api/events");
  source.addEventListener("ready", () => {
    setUp(true);
    for (const listener of listeners) listener(null);
  });
  source.addEventListener("changed", (event) => {
    const topics = JSON.parse((event as MessageEvent<string>).data) as string[];
    for (const listener of listeners) listener(topics);
  });
  source.onerror = () => {
    setUp(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  };
}

function setUp(value: boolean): void {
  up = value;
  for (const tell of connection) tell(value);
}

export function useConnected(): boolean {
  const [value, set] = useState(up);
  useEffect(() => {
    connection.add(set);
    set(up);
    return () => void connection.delete(set);
  }, []);
  return value;
}

export interface Data<T> {
  value: T | null;
  error: Problem | null;
}

// Asks for a path, and again when one of the topics changed; what was there stays until then. One
// question at a time: what changes meanwhile is asked for afterwards.
export function useData<T>(path: string | null, topics: string[]): Data<T> {
  const [data, setData] = useState<Data<T> & { path: string | null }>({
    path: null,
    value: null,
    error: null,
  });
  const wanted = topics.join(" ");
  useEffect(() => {
    if (path === null) return;
    let ended = false;
    let asking = false;
    let again = false;
    const ask = async () => {
      if (asking) {
        again = true;
        return;
      }
      asking = true;
      do {
        again = false;
        try {
          const value = await get<T>(path);
          if (!ended) setData({ path, value, error: null });
        } catch (error) {
          const problem =
            error instanceof Refused
              ? error.problem
              : { reason: "", message: "the console does not answer", violations: [] };
          if (!ended) {
            setData((before) => ({
              path,
              value: before.path === path ? before.value : null,
              error: problem,
            }));
          }
        }
      } while (again && !ended);
      asking = false;
    };
    const listener: Listener = (changed) => {
      const mine = wanted.split(" ");
      const concerned =
        changed === null ||
        changed.some((topic) => mine.some((each) => topic === each || topic.startsWith(`${each}/`)));
      if (concerned) void ask();
    };
    listeners.add(listener);
    void ask();
    return () => {
      ended = true;
      listeners.delete(listener);
    };
  }, [path, wanted]);
  return data.path === path ? data : { value: null, error: null };
}
