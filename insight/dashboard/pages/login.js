import { html, useState } from "../parts.js";
import { send } from "../api.js";

export function Login() {
  const [state, show] = useState({ error: null, busy: false });
  const submit = async (event) => {
    event.preventDefault();
    show({ error: null, busy: true });
    try {
      await send("POST", "/v1/session", { token: new FormData(event.target).get("token").trim() });
      location.assign("/");
    } catch (error) {
      show({ error: error.status === 401 ? "This is not the token." : error.message, busy: false });
    }
  };
  return html`<main class="login"><form class="card" onSubmit=${submit}>
    <img src="/assets/icon.svg" alt="" width="44" height="44" /><h1>evalfleet</h1>
    <label>Token<input type="password" name="token" required autofocus autocomplete="current-password" aria-describedby="token-help" /></label>
    <p id="token-help" class="muted">It is in <code>tokens/api</code> of the state directory; <code>evalfleet dashboard</code> prints a link that has it.</p>
    ${state.error && html`<p class="notice error" role="alert">${state.error}</p>`}
    <button class="button primary" disabled=${state.busy}>Log in</button></form></main>`;
}
