// An SMSC on npm's smpp: accepts everything, and sends a receipt for what asks
// for one, on the session that it came on if that receives, else on another of
// the same system_id, once one is up. It reaches no number that ends in 66, and
// knows no members of any distribution list. Usage: node smsc.js [MILLISECONDS
// between enquire_links to every peer; 0: none]
'use strict';
const { smpp, PDU, octets, say, text, untilStdinEnds } = require('./wire');

let next = 0x5000;
const sessions = new Set();
const receivers = new Map(); // system_id: session, the latest bind
const waiting = new Map(); // system_id: functions that want one
// A receipt on another session must not overtake its submit_sm_resp: Kannel, for
// one, knows no message by an id that it has not been given yet.
const siblingDelay = 500;
const enquireEvery = Number(process.argv[2] || 0);

function nextID() {
  return (next++).toString(16).padStart(8, '0');
}

function date(d) {
  return d.toISOString().replace(/[-T:]/g, '').slice(2, 12);
}

const server = smpp.createServer({}, (session) => {
  let systemID = '';
  let tlvs = true;
  let own = null; // this session, if it receives
  let timer = null;
  sessions.add(session);
  session.on('error', (e) => { if (e.code !== 'ECONNRESET') say({ event: 'error', error: String(e) }); });
  session.on('close', () => {
    clearInterval(timer);
    sessions.delete(session);
    if (receivers.get(systemID) === session) receivers.delete(systemID);
  });
  for (const bind of ['bind_transceiver', 'bind_transmitter', 'bind_receiver']) {
    session.on(bind, (pdu) => {
      systemID = pdu.system_id;
      say({ event: 'bind', system_id: systemID, password: pdu.password, command: bind });
      tlvs = pdu.interface_version >= 0x34; // none to older peers (SMPP v3.4 §1.6)
      session.send(pdu.response({ system_id: 'NODE' }));
      if (enquireEvery > 0) {
        timer = setInterval(() => session.enquire_link((resp) => say({
          event: 'enquired', system_id: systemID, status: resp.command_status,
        })), enquireEvery);
      }
      if (bind === 'bind_transmitter') return;
      own = session;
      receivers.set(systemID, session);
      const late = waiting.get(systemID) || [];
      waiting.delete(systemID);
      late.forEach((send) => send(session));
    });
  }
  session.on('enquire_link', (pdu) => session.send(pdu.response()));
  session.on('unbind', (pdu) => { session.send(pdu.response()); session.close(); });
  session.on('submit_sm', (pdu) => {
    const id = nextID();
    say({ event: 'submit', system_id: systemID, id, raw: pdu.raw, to: pdu.destination_addr, text: text(pdu) });
    session.send(pdu.response({ message_id: id }));
    report(id, pdu, pdu);
  });
  session.on('submit_multi', (pdu) => {
    const id = nextID();
    answer(pdu, pdu.response({ message_id: id, unsuccess_sme: [] }), id);
    pdu.dest_address.filter((a) => a.destination_addr).forEach((a) => report(id, pdu, a));
  });
  session.on('data_sm', (pdu) => {
    const id = nextID();
    answer(pdu, pdu.response({ message_id: id }), id);
    report(id, pdu, pdu);
  });
  session.on('broadcast_sm', (pdu) => {
    const id = nextID();
    answer(pdu, pdu.response({ message_id: id }), id);
  });
  session.on('query_sm', (pdu) => answer(pdu, pdu.response({ message_id: pdu.message_id, message_state: 1, error_code: 7 })));
  session.on('query_broadcast_sm', (pdu) => answer(pdu, pdu.response({
    message_id: pdu.message_id, message_state: 1, broadcast_area_identifier: ['Area 51'], broadcast_area_success: [80],
  })));
  for (const command of ['cancel_sm', 'replace_sm', 'cancel_broadcast_sm']) {
    session.on(command, (pdu) => answer(pdu, pdu.response()));
  }
  // The library reads of an unknown command_id the header alone, and would
  // answer generic_nack: this SMSC knows what its vendor means.
  session.on('unknown', (pdu) => {
    const b = Buffer.concat([Buffer.from(pdu.raw.slice(0, 32), 'hex'), Buffer.from([0xff, 0x00, 0x2a])]);
    b.writeUInt32BE(b.length, 0);
    b.writeUInt32BE((pdu.command_id | 0x80000000) >>> 0, 4);
    answer(pdu, octets(b, true));
  });

  // Tell of a request that is no submit_sm when its answer has gone.
  function answer(pdu, resp, id = '') {
    session.send(resp);
    say({ event: 'request', system_id: systemID, id, raw: pdu.raw, back: resp.raw, text: text(pdu) });
  }

  // Send a receipt for one destination of pdu, if it asks for one.
  function report(id, pdu, dest) {
    if (!(pdu.registered_delivery & 1)) return;
    const now = date(new Date());
    const gone = dest.destination_addr.endsWith('66');
    const outcome = gone ? 'dlvrd:000' : 'dlvrd:001';
    const stat = gone ? 'stat:UNDELIV err:001' : 'stat:DELIVRD err:000';
    const receipt = new PDU('deliver_sm', {
      source_addr_ton: 1, source_addr_npi: 1, source_addr: dest.destination_addr,
      dest_addr_ton: pdu.source_addr_ton, dest_addr_npi: pdu.source_addr_npi, destination_addr: pdu.source_addr,
      esm_class: 4, data_coding: 0,
      short_message: `id:${id} sub:001 ${outcome} submit date:${now} done date:${now} ${stat} text:`,
      ...(tlvs ? { receipted_message_id: id, message_state: gone ? 5 : 2 } : {}),
    });
    const send = (to) => {
      to.send(receipt, (resp) => say({ event: 'receipt-taken', id, status: resp.command_status }));
      say({ event: 'receipt', system_id: systemID, id, raw: receipt.raw, from: dest.destination_addr });
    };
    if (own) send(own);
    else setTimeout(() => {
      const to = receivers.get(systemID);
      if (to) send(to);
      else waiting.set(systemID, [...(waiting.get(systemID) || []), send]);
    }, siblingDelay);
  }
});

server.listen(0, '127.0.0.1', () => say({ event: 'listening', addr: `127.0.0.1:${server.address().port}` }));
untilStdinEnds(() => {
  for (const s of sessions) s.close();
  server.close(() => process.exit(0));
});
