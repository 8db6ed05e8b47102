// The hooks with the real frameworks, in a document of jsdom's.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { JSDOM } from 'jsdom';
import { EPOCH, FakeTime, FakeTransport } from './support/fakes.js';

const { window } = new JSDOM('<!doctype html><div id="app"></div>');
Object.assign(globalThis, { window, document: window.document, IS_REACT_ACT_ENVIRONMENT: true });
globalThis.navigator ??= window.navigator;
for (const name of ['HTMLElement', 'Element', 'Node', 'SVGElement']) globalThis[name] = window[name];
after(() => window.close());

const { StrictMode, act, createElement } = await import('react');
const { createRoot } = await import('react-dom/client');
const { useFanwire, useLatestEvent } = await import('../src/hooks/react.js');
const vue = await import('vue');
const { useFanwire: useFanwireVue } = await import('../src/hooks/vue.js');

const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
/** What a feed of a test is made of; the same object for all that are to share one. */
function fakes() {
  const sse = new FakeTransport();
  const options = { transport: 'sse', environment: new FakeTime().environment(), transports: { sse: sse.connect } };
  return { sse, options };
}

/** A React root, taken down when the test ends. */
async function reactRoot(t) {
  const container = document.createElement('div');
  const root = createRoot(container);
  t.after(() => act(() => root.unmount()));
  return { container, render: (element) => act(() => root.render(element)), unmount: () => act(() => root.unmount()) };
}

test('React: StrictMode opens one connection, and the events come once', async (t) => {
  const { sse, options } = fakes();
  const got = [];
  const Orders = () => {
    const { readyState, transport } = useFanwire('/events?topic=a', { ...options, onMessage: (event) => got.push(event.data) });
    return `${readyState} ${transport}`;
  };
  const { container, render, unmount } = await reactRoot(t);
  await render(createElement(StrictMode, null, createElement(Orders)));
  assert.equal(container.textContent, '0 null');
  assert.equal(sse.connections.length, 1);
  await act(() => sse.last.hello(0));
  assert.equal(container.textContent, '1 sse');
  await act(() => sse.last.event(1));
  await later(300);
  assert.equal(sse.last.isClosed, false, 'what the first of the two mounts let go of is still held');
  await act(() => sse.last.event(2));
  assert.deepEqual(got, ['1', '2']);
  await unmount();
  await later(300);
  assert.ok(sse.last.isClosed);
  assert.equal(sse.connections.length, 1);
});

test('React: a component that a hot reload puts up again, with its new code, has its feed still', async (t) => {
  const { sse, options } = fakes();
  const got = [];
  const version = (name) => () => {
    useFanwire('/events?topic=a', { ...options, onMessage: (event) => got.push(`${name} ${event.data}`) });
    return name;
  };
  const { container, render } = await reactRoot(t);
  await render(createElement(StrictMode, null, createElement(version('old'))));
  await act(() => sse.last.hello(0));
  await act(() => sse.last.event(1));
  // Another function is another component: the old one is taken down.
  await render(createElement(StrictMode, null, createElement(version('new'))));
  assert.equal(container.textContent, 'new');
  await later(300);
  await act(() => sse.last.event(2));
  assert.deepEqual([got, sse.connections.length, sse.last.isClosed], [['old 1', 'new 2'], 1, false]);
});

test('React: listeners are those of the newest render, and rendering opens nothing', async (t) => {
  const { sse, options } = fakes();
  const got = [];
  const Orders = ({ name }) => {
    useFanwire('/events?topic=a', { ...options, types: ['note'], onMessage: (event) => got.push(`${name} ${event.data}`), onGap: ({ detail }) => got.push(`${name} ${detail.reason}`) });
    return null;
  };
  const { render } = await reactRoot(t);
  await render(createElement(Orders, { name: 'old' }));
  await act(() => sse.last.hello(0));
  sse.last.event(1);
  await render(createElement(Orders, { name: 'new' }));
  sse.last.event(2, { type: 'note' });
  sse.last.say({ name: 'gap', reason: 'evicted', from: 3, to: 4, cursor: { epoch: EPOCH, seq: 4 } });
  assert.deepEqual(got, ['old 1', 'new 2', 'new evicted']);
  assert.equal(sse.connections.length, 1);
});

test('React: components share a feed; another URL is another feed; none is none', async (t) => {
  const { sse, options } = fakes();
  const Value = ({ url }) => useLatestEvent(url, options)?.data ?? '-';
  const { container, render } = await reactRoot(t);
  const page = (url) => createElement('p', null, createElement(Value, { url }), createElement(Value, { url }));
  await render(page('/events?topic=a'));
  assert.equal(sse.connections.length, 1);
  await act(() => {
    sse.last.hello(0);
    sse.last.event(7);
  });
  assert.equal(container.textContent, '77');
  await render(page('/events?topic=b'));
  assert.equal(container.textContent, '--');
  assert.equal(sse.connections.length, 2);
  await later(300);
  assert.deepEqual(sse.connections.map(({ isClosed }) => isClosed), [true, false]);
  await render(page(null));
  await later(300);
  assert.deepEqual(sse.connections.map(({ isClosed }) => isClosed), [true, true]);
});

test('React: a token that is given anew with each render is no reason to connect anew', async (t) => {
  const { sse, options } = fakes();
  const Orders = ({ name }) => {
    useFanwire('/events?topic=a', { ...options, token: async () => `token of ${name}` });
    return null;
  };
  const { render } = await reactRoot(t);
  await render(createElement(StrictMode, null, createElement(Orders, { name: 'old' })));
  await render(createElement(StrictMode, null, createElement(Orders, { name: 'new' })));
  assert.equal(sse.connections.length, 1);
  assert.equal(await (await sse.last.request.tokens()).get(), 'token of new');
});

test('React: on a server there is no feed', async () => {
  const { renderToString } = await import('react-dom/server');
  const { sse, options } = fakes();
  const Orders = () => {
    const { readyState, feed } = useFanwire('/events?topic=a', options);
    return `${readyState} ${feed}`;
  };
  assert.equal(renderToString(createElement(Orders)), '0 null');
  assert.equal(sse.connections.length, 0);
});

test('Vue: a feed lives with its component, and follows its URL', async () => {
  const { sse, options } = fakes();
  const topic = vue.ref('a');
  const got = [];
  const component = {
    setup() {
      const { readyState, transport, latest } = useFanwireVue(() => topic.value && `/events?topic=${topic.value}`, { ...options, onMessage: ({ data }) => got.push(data) });
      return () => vue.h('p', `${readyState.value} ${transport.value} ${latest.value?.data}`);
    },
  };
  const container = document.createElement('div');
  const app = vue.createApp(component);
  app.mount(container);
  assert.equal(container.textContent, '0 null undefined');
  sse.last.hello(0);
  sse.last.event(1);
  await vue.nextTick();
  assert.equal(container.textContent, '1 sse 1');
  topic.value = 'b';
  await vue.nextTick();
  assert.equal(sse.connections.length, 2);
  assert.equal(container.textContent, '0 null undefined');
  await later(300);
  assert.deepEqual(sse.connections.map(({ isClosed }) => isClosed), [true, false]);
  app.unmount();
  await later(300);
  assert.deepEqual([sse.last.isClosed, got], [true, ['1']]);
});

test('Vue: a component that a hot reload puts up again has its feed still', async () => {
  const { sse, options } = fakes();
  const component = { setup: () => (useFanwireVue('/events?topic=a', options), () => null) };
  const mount = () => {
    const app = vue.createApp(component);
    app.mount(document.createElement('div'));
    return app;
  };
  const first = mount();
  sse.last.hello(0);
  first.unmount();
  const second = mount();
  await later(300);
  assert.deepEqual([sse.connections.length, sse.last.isClosed], [1, false]);
  second.unmount();
});

test('Vue: on a server there is no feed', async (t) => {
  const { renderToString } = await import('vue/server-renderer');
  const { sse, options } = fakes();
  delete globalThis.window;
  t.after(() => Object.assign(globalThis, { window }));
  const component = {
    setup() {
      const { readyState, feed } = useFanwireVue('/events?topic=a', options);
      return () => vue.h('p', `${readyState.value} ${feed.value}`);
    },
  };
  assert.equal(await renderToString(vue.createSSRApp(component)), '<p>0 null</p>');
  assert.equal(sse.connections.length, 0);
});
