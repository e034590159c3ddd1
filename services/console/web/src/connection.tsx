// Which connections are asked about: protocol and port.
import { useState } from "preact/hooks";

const PROTOCOLS = ["", "tcp", "udp", "sctp", "icmp", "icmpv6"];

export type ConnectionValues = { protocol: string; port: string };

export interface Connection {
  values: ConnectionValues;
  set: (values: ConnectionValues) => void;
}

export function useConnection(chosen: URLSearchParams): Connection {
  const [values, set] = useState({ protocol: chosen.get("protocol") ?? "", port: chosen.get("port") ?? "" });
  return { values, set };
}

export function ConnectionFields({ connection: { values, set } }: { connection: Connection }) {
  return (
    <>
      <label>
        Protocol{" "}
        <select
          value={values.protocol}
          onChange={(event) => set({ ...values, protocol: event.currentTarget.value })}
        >
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
          value={values.port}
          onInput={(event) => set({ ...values, port: event.currentTarget.value })}
        />
      </label>
    </>
  );
}
