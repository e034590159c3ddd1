import { type Found, useData, query } from "./data";
import { mapAddress, nodeAddress } from "./route";
import { Failure, Name, Waiting } from "./parts";

export function SearchResults({ text }: { text: string }) {
  const { value, error } = useData<{ found: Found[] }>(`/api/search${query({ q: text })}`, []);
  return (
    <>
      <h1>
        Found for <Name>{text}</Name>
      </h1>
      {error && <Failure problem={error} />}
      {!value && !error && <Waiting what="what there is" />}
      {value && value.found.length === 0 && (
        <p>Nothing: no address, allocation, node, group or tenant of that name.</p>
      )}
      <ul class="found">
        {value?.found.map((each) => (
          <li>
            <a href={address(each)}>
              <Name>{each.title}</Name>
            </a>{" "}
            <span class="quiet">
              {each.kind} · <Name>{each.detail}</Name>
            </span>
          </li>
        ))}
      </ul>
    </>
  );
}

function address(each: Found): string {
  if (each.node) return nodeAddress(each.node);
  const mark = each.kind === "address" && !each.title.includes("/") ? each.title : "";
  return mapAddress(each.network ?? "", each.prefix, mark);
}
