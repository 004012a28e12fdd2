// An SMSC on npm's smpp: accepts everything, and sends a receipt for what asks
// for one, on the session that it came on.
'use strict';
const { smpp, PDU, say, text, untilStdinEnds } = require('./wire');

let next = 0x5000;
const sessions = new Set();

function date(d) {
  return d.toISOString().replace(/[-T:]/g, '').slice(2, 12);
}

const server = smpp.createServer({}, (session) => {
  let systemID = '';
  sessions.add(session);
  session.on('error', (e) => { if (e.code !== 'ECONNRESET') say({ event: 'error', error: String(e) }); });
  session.on('close', () => sessions.delete(session));
  for (const bind of ['bind_transceiver', 'bind_transmitter', 'bind_receiver']) {
    session.on(bind, (pdu) => {
      systemID = pdu.system_id;
      say({ event: 'bind', system_id: systemID, password: pdu.password, command: bind });
      session.send(pdu.response({ system_id: 'NODE' }));
    });
  }
  session.on('enquire_link', (pdu) => session.send(pdu.response()));
  session.on('unbind', (pdu) => { session.send(pdu.response()); session.close(); });
  session.on('submit_sm', (pdu) => {
    const id = (next++).toString(16).padStart(8, '0');
    say({ event: 'submit', system_id: systemID, id, raw: pdu.raw, to: pdu.destination_addr, text: text(pdu) });
    session.send(pdu.response({ message_id: id }));
    if (pdu.registered_delivery & 1) {
      const now = date(new Date());
      const receipt = new PDU('deliver_sm', {
        source_addr_ton: 1, source_addr_npi: 1, source_addr: pdu.destination_addr,
        dest_addr_ton: pdu.source_addr_ton, dest_addr_npi: pdu.source_addr_npi, destination_addr: pdu.source_addr,
        esm_class: 4, data_coding: 0,
        short_message: `id:${id} sub:001 dlvrd:001 submit date:${now} done date:${now} stat:DELIVRD err:000 text:`,
        receipted_message_id: id, message_state: 2,
      });
      session.send(receipt, (resp) => say({ event: 'receipt-taken', id, status: resp.command_status }));
      say({ event: 'receipt', system_id: systemID, id, raw: receipt.raw });
    }
  });
});

server.listen(0, '127.0.0.1', () => say({ event: 'listening', addr: `127.0.0.1:${server.address().port}` }));
untilStdinEnds(() => {
  for (const s of sessions) s.close();
  server.close(() => process.exit(0));
});
