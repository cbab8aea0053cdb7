// A JupyterLab extension without a build step: shows that the host is about to power itself off.
// The idle stop writes what is to be shown into notice.json; asking for a file of an extension is
// no activity of a kernel, so that asking keeps nothing on.
(function () {
  'use strict';
  const NAME = 'lab-idle-notice';
  const EVERY_MS = 20000;

  function activate(app) {
    const page = app.serviceManager.serverSettings.baseUrl + 'lab/extensions/' + NAME + '/static/notice.json';
    let shown = null;

    async function show(text) {
      if (shown === null) {
        const options = { autoClose: false };
        shown = await app.commands.execute('apputils:notify', { message: text, type: 'warning', options });
      } else {
        await app.commands.execute('apputils:update-notification', { id: shown, message: text });
      }
    }

    async function dismiss() {
      if (shown !== null) {
        await app.commands.execute('apputils:dismiss-notification', { id: shown });
        shown = null;
      }
    }

    async function look() {
      try {
        const answer = await fetch(page, { cache: 'no-store' });
        const notice = answer.ok ? await answer.json() : {};
        await (notice.text ? show(notice.text) : dismiss());
      } catch (error) {
        console.debug(NAME, error); // the host is gone, or the tunnel: the next look will tell
      }
    }

    app.restored.then(look);
    window.setInterval(look, EVERY_MS);
  }

  const plugin = { id: NAME + ':plugin', autoStart: true, activate };
  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[NAME] = {
    init: function () {},
    get: async function () {
      return function () {
        return { __esModule: true, default: plugin };
      };
    },
  };
})();
