// What waits for a person: plans to approve, and an episode that nobody else can judge.

import { request, told } from "./wire.js";
import { element } from "./memory.js";

const $ = (id) => document.getElementById(id);

export class Person {
  constructor(say, may) {
    this.say = say;
    this.may = may;
    this.episode = 0;
    $("succeeded").addEventListener("click", () => this.judge(true));
    $("missed").addEventListener("click", () => this.judge(false));
  }

  // What waits comes whole whenever it changes, and only then.
  changed(asked, now) {
    this.episode = asked.episode;
    $("person").hidden = !asked.plans.length && !asked.episode;
    $("judge").hidden = !asked.episode;
    $("judged").textContent = `Episode ${asked.episode} is judged by a person alone. Without a word it fails at its time limit.`;
    $("plans").replaceChildren(...asked.plans.map((plan) => this.plan(plan, now)));
    for (const button of $("person").querySelectorAll("button")) this.allow(button);
  }

  plan(plan, now) {
    const pace = plan.speed < 1 ? `, at ${Math.round(100 * plan.speed)} % of the speed or more slowly` : "";
    const ends = new Date(Date.now() + plan.ends - now).toLocaleTimeString();
    const yes = element("button", { type: "button", className: "primary", textContent: "Approve" });
    const no = element("button", { type: "button", textContent: "Reject" });
    const answer = (approved) => this.send([yes, no], `/plans/${encodeURIComponent(plan.id)}/answer`, { approved });
    yes.addEventListener("click", () => answer(true));
    no.addEventListener("click", () => answer(false));
    return element("li", {},
      element("b", { textContent: plan.instruction }),
      ...plan.questions.map((question) => element("p", { className: "question", textContent: question })),
      element("p", { textContent: `${plan.steps.join("; then ")}${pace}` }),
      element("div", { className: "actions" }, yes, no, element("span", { className: "note", textContent: `held at ${ends} without a word` })));
  }

  judge(success) {
    this.send([$("succeeded"), $("missed")], "/score", { success, episode: this.episode });
  }

  allow(button) {
    button.disabled = !this.may("operator");
    button.title = button.disabled ? "needs the token of an operator" : "";
  }

  async send(buttons, path, body) {
    for (const button of buttons) button.disabled = true;
    try {
      this.say((await request(path, body)).message);
    } catch (error) {
      this.say(told(error), true);
    } finally {
      for (const button of buttons) this.allow(button);
    }
  }
}
