// A program of a client's: it is compiled against types made of /openapi.json, and run against the host.
// Prints what it saw, as JSON.
import createClient from "openapi-fetch";
import type { components, paths } from "./api";

declare const process: { env: Record<string, string | undefined> };

const api = createClient<paths>({
  baseUrl: process.env.HOST ?? "",
  headers: { Authorization: `Bearer ${process.env.TOKEN}` },
});

type Deal = components["schemas"]["DealsRow"];

// Types that say what the tables say: text, whole numbers as numbers, decimals as text, NULL where it may be.
function line(deal: Deal, price: string): { number: string | null; vehicle: string | null; price: string } {
  return { number: deal.dealNumber, vehicle: deal.vehicleId, price };
}

// Every code of the operation is known, so a `switch` can be complete.
function advice(code: components["schemas"]["CreateDealError"]["error"]["code"]): string {
  switch (code) {
    case "VEHICLE_NOT_AVAILABLE": return "another vehicle";
    case "RESOURCE_NOT_FOUND": return "look again";
    default: return code;
  }
}

async function main() {
  const vehicleId = process.env.VEHICLE ?? "";
  const body = { salespersonId: process.env.SALESPERSON ?? "", customerId: process.env.CUSTOMER ?? "", vehicleId };
  const first = await api.POST("/api/ops/create_deal", { body }); // the token names the tenant
  if (first.error) throw new Error(first.error.error.message);
  const { deal, scenario } = first.data.result;
  const again = await api.POST("/api/ops/create_deal", { body: { ...body, vehicleId: body.salespersonId } });
  const page = await api.POST("/api/ops/list_deals", { body: { limit: 1 } });
  const deals = page.data?.result.deals ?? [];
  console.log(JSON.stringify({
    deal: line(deal, scenario.vehiclePrice), again: again.error ? advice(again.error.error.code) : "done twice",
    listed: deals.map((one) => one.id === deal.id),
  }));
}

void main();
