// Node's fetch, as in Didit's documentation.

const session = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10";
const { DIDIT_BASE_URL, DIDIT_AUTH_URL, DIDIT_CLIENT_ID, DIDIT_CLIENT_SECRET } = process.env;

const login = await fetch(`${DIDIT_AUTH_URL}/auth/v2/token/`, {
  method: "POST",
  headers: {
    "Content-Type": "application/x-www-form-urlencoded",
    Authorization: "Basic " + Buffer.from(`${DIDIT_CLIENT_ID}:${DIDIT_CLIENT_SECRET}`).toString("base64"),
  },
  body: "grant_type=client_credentials",
  signal: AbortSignal.timeout(30_000),
});
const { access_token } = await login.json();

async function update() {
  const answer = await fetch(`${DIDIT_BASE_URL}/v1/session/${session}/update-status/`, {
    method: "PATCH",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${access_token}` },
    body: JSON.stringify({ new_status: "Declined", comment: "Duplicated user" }),
    signal: AbortSignal.timeout(30_000),
  });
  const updated = await answer.json();
  if (answer.status !== 200 || updated.session_id !== session) throw new Error("not confirmed");
}

await update();
if (process.argv[2] === "warm") {
  const count = Number(process.argv[3]);
  const start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) await update();
  console.log(String(process.hrtime.bigint() - start));
}
