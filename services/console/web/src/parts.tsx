// What several views are made of.
import type { ComponentChildren } from "preact";
import type { Problem, Usage } from "./data";

export function number(value: number): string {
  if (value >= Number.MAX_SAFE_INTEGER) return "over 9 quadrillion";
  return value.toLocaleString("en");
}

export function plural(value: number, noun: string, many = `${noun}s`): string {
  return `${number(value)} ${value === 1 ? noun : many}`;
}

export function percent(part: number, whole: number): string {
  if (!whole || !part) return "0 %";
  const share = (100 * part) / whole;
  if (share < 0.1) return "< 0.1 %";
  return `${share < 10 ? share.toFixed(1) : Math.round(share)} %`;
}

export function seconds(value: number): string {
  if (value < 0.001) return "< 1 ms";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return value < 120 ? `${value.toFixed(1)} s` : `${Math.round(value / 60)} min`;
}

export function moment(value: number | string): string {
  const time = typeof value === "number" ? new Date(value * 1000) : new Date(value);
  if (Number.isNaN(time.getTime())) return "";
  const day = time.toLocaleDateString("sv");
  const clock = time.toLocaleTimeString("sv");
  return day === new Date().toLocaleDateString("sv") ? clock : `${day} ${clock}`;
}

// A name somebody else chose: text, in its own direction.
export function Name({ children }: { children: ComponentChildren }) {
  return <bdi class="name">{children}</bdi>;
}

export function owner(tenant: string, segment: string): string {
  return segment ? `${tenant}/${segment}` : tenant;
}

export const STATES = ["used", "resting", "reserved", "stranded", "free"] as const;

export function UsageBar({ usage, label }: { usage: Usage; label: string }) {
  const share = (value: number) => `${Math.min(100, (100 * value) / Math.max(1, usage.size))}%`;
  const text =
    `${label}: ${number(usage.used)} of ${number(usage.size)} in use, ` +
    `${number(usage.resting)} resting, ${number(usage.reserved)} reserved, ${number(usage.free)} free`;
  return (
    <span class="usage" role="img" aria-label={text} title={text}>
      <span class="used" style={{ width: share(usage.used) }} />
      <span class="resting" style={{ width: share(usage.resting) }} />
      <span class="reserved" style={{ width: share(usage.reserved) }} />
    </span>
  );
}

export function Failure({ problem }: { problem: Problem }) {
  return (
    <div class="problem" role="alert">
      <p>{problem.message}</p>
      {/* the message of one alone says it */}
      {problem.violations.length > 1 && (
        <ul>
          {problem.violations.slice(0, 50).map((each) => (
            <li>
              {each.path && <code>{each.path}</code>} {each.message}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

export function Waiting({ what }: { what: string }) {
  return (
    <p class="waiting" role="status">
      Reading {what} …
    </p>
  );
}

// Columns of numbers.
const NUMBERS = new Set(["In use", "Resting", "Applied", "Packets a second", "Packets", "Rule"]);

export function Table({
  columns,
  children,
  caption,
}: {
  columns: string[];
  children: ComponentChildren;
  caption: string;
}) {
  return (
    <div class="scroll">
      <table>
        <caption class="hidden">{caption}</caption>
        <thead>
          <tr>
            {columns.map((each) => (
              <th scope="col" class={NUMBERS.has(each) ? "right" : ""}>
                {each}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
