// A client of imgserve, written from docs/protocol.md alone.
//
//   node client.mjs CONNECTION_FILE REQUEST_JSON [JOB_ID]
//
// Submits one request, prints a line of JSON for each step (accepted, then the end), and exits
// with 0 when the job is done, 1 when it is not.

import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";

import { decode, encode } from "@msgpack/msgpack";
import { Push, Subscriber } from "zeromq";

const VERSION = 1;
const RANK = { queued: 0, dispatched: 1, accepted: 2 };
const TERMINAL = 3;
const RESEND_MS = 3000;
const REPLAY_LIMIT = 1000;

// The order of the fields of each kind, and what is left out at the end.
const FIELDS = {
  state: [
    ["epoch"], ["seq"], ["job_id"], ["state"], ["dst_url", ""], ["code", 0], ["detail", ""],
    ["attempts", 0], ["reasons", []], ["seconds", null], ["width_px", 0], ["height_px", 0],
    ["size_bytes", 0], ["warnings", []],
  ],
  refused: [["epoch"], ["seq"], ["job_id"], ["reason"], ["detail"]],
  broker_beat: [["epoch"], ["interval_s"], ["full"]],
};

function parse(frame) {
  const space = frame.indexOf(0x20);
  const topic = frame.subarray(0, space).toString();
  const [version, kind, ...values] = decode(frame.subarray(space + 1));
  if (version !== VERSION || !(kind in FIELDS)) {
    throw new Error(`not understood: version ${version}, kind ${kind}`);
  }
  const message = { topic, kind };
  FIELDS[kind].forEach(([name, missing], at) => {
    message[name] = at < values.length ? values[at] : missing;
  });
  return message;
}

// Equal requests are equal bytes: keys sorted, no white space, ASCII alone.
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const pairs = Object.keys(value).sort();
    return `{${pairs.map((key) => `${canonical(key)}:${canonical(value[key])}`).join(",")}}`;
  }
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

class Client {
  constructor(path) {
    this.path = path;
    this.submitter = randomBytes(16).toString("hex");
    this.epoch = "";
    this.seq = 0;
    this.unfinished = new Map();
  }

  async connect() {
    const connection = JSON.parse(await readFile(this.path, "utf8"));
    if (connection.protocol !== VERSION) throw new Error(`protocol ${connection.protocol}`);
    this.events = new Subscriber({ linger: 0 });
    this.events.subscribe(`${this.submitter} `, "beat ");
    this.events.connect(connection.events);
    this.jobs = new Push({ linger: 1000 });
    this.jobs.connect(connection.jobs);
  }

  close() {
    this.events.close();
    this.jobs.close();
  }

  async send(kind, ...fields) {
    await this.jobs.send(Buffer.from(encode([VERSION, kind, ...fields])));
  }

  async replay() {
    const ids = [...this.unfinished.keys()];
    for (let at = 0; at < ids.length; at += REPLAY_LIMIT) {
      await this.send("replay", this.submitter, ids.slice(at, at + REPLAY_LIMIT));
    }
  }

  async submit(jobId, request, tell) {
    const payload = new TextEncoder().encode(canonical(request));
    this.unfinished.set(jobId, { payload, rank: -1, sentMs: 0, tell });
  }

  async sendDue(full) {
    for (const [jobId, job] of this.unfinished) {
      if (job.rank < 0 && !full && Date.now() - job.sentMs > RESEND_MS) {
        job.sentMs = Date.now();
        await this.send("submit", jobId, this.submitter, 0, job.payload);
      }
    }
  }

  // Listen until every job has ended.
  async run() {
    for await (const [frame] of this.events) {
      const message = parse(frame);
      if (message.kind === "broker_beat") {
        const restarted = this.epoch !== "" && this.epoch !== message.epoch;
        if (restarted) await this.replay();
        if (this.epoch !== message.epoch) [this.epoch, this.seq] = [message.epoch, 0];
        await this.sendDue(message.full);
      } else {
        const missed = message.epoch === this.epoch && message.seq > this.seq + 1;
        [this.epoch, this.seq] = [message.epoch, message.seq];
        if (missed) await this.replay();
        this.hear(message);
      }
      if (this.unfinished.size === 0) return;
    }
  }

  hear(message) {
    const job = this.unfinished.get(message.job_id);
    if (job === undefined) return;
    if (message.kind === "refused") {
      if (message.reason === "conflict") this.end(message, job);
      else [job.rank, job.sentMs] = [-1, message.reason === "unknown" ? 0 : Date.now()];
      return;
    }
    const rank = RANK[message.state] ?? TERMINAL;
    if (rank <= job.rank) return;
    job.rank = rank;
    if (rank === TERMINAL) this.end(message, job);
    else if (message.state === "accepted") job.tell(message);
  }

  end(message, job) {
    this.unfinished.delete(message.job_id);
    job.tell(message);
  }
}

const [path, request, jobId = randomBytes(16).toString("hex")] = process.argv.slice(2);
const client = new Client(path);
let last;
await client.connect();
await client.submit(jobId, JSON.parse(request), (message) => {
  last = message;
  console.log(JSON.stringify(message));
});
await client.run();
client.close();
process.exitCode = last.state === "done" ? 0 : 1;
