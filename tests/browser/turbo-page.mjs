// Turbo, and Symfony's UX Turbo, as applications have them in their bundle: window.listen(way, hub, topic) has them listen.

import { Application } from '@hotwired/stimulus';
import { connectStreamSource } from '@hotwired/turbo';
import '@symfony/ux-turbo/dist/mercure_stream_source_element.js';
import MercureController from '@symfony/ux-turbo/dist/turbo_stream_controller.js';

Application.start().register('mercure', MercureController);

const url = (hub, topic) => `${hub}?topic=${encodeURIComponent(topic)}`;

/** Puts an element with these attributes into the page. */
function put(name, attributes) {
  const element = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  document.body.append(element);
}

const WAYS = {
  'connectStreamSource of Turbo': (hub, topic) => {
    connectStreamSource(window.source = new EventSource(url(hub, topic), { withCredentials: true }));
  },
  '<turbo-mercure-stream-source> of UX Turbo': (hub, topic) => put('turbo-mercure-stream-source', { src: url(hub, topic), private: '' }),
  'Stimulus controller of UX Turbo': (hub, topic) => put('div', {
    'data-controller': 'mercure', 'data-mercure-hub-value': hub, 'data-mercure-topic-value': topic, 'data-mercure-with-credentials-value': 'true',
  }),
};

window.listen = (way, hub, topic) => {
  document.body.innerHTML = '<ul id="books"></ul>';
  WAYS[way](hub, topic);
};
