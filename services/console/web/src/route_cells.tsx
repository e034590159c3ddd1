// A route as tables show it.
import type { Route } from "./data";
import { Name } from "./parts";
import { nodeAddress } from "./route";

export function RouteCells({ route }: { route: Route }) {
  return (
    <>
      <td>
        <Name>{route.network}</Name>
      </td>
      <td>{route.prefix}</td>
      <td>
        <a href={nodeAddress(route.node)}>
          <Name>{route.node}</Name>
        </a>
      </td>
      <td>{route.next_hop}</td>
    </>
  );
}
