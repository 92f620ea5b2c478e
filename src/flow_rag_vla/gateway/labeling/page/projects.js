// Which project the page is about. It stands in the address (?project=kitchen), so that a link leads to the same one;
// without it the page is about all of them.

import { json } from "./api.js";
import { element, make } from "./elements.js";

const inAddress = () => new URLSearchParams(location.search).get("project") ?? "";

function addressOf(name) {
  const address = new URL(location.href);
  if (name) address.searchParams.set("project", name);
  else address.searchParams.delete("project");
  return address;
}

export class Projects {
  // changed: called when somebody chose another project, or went back to one.
  constructor(changed) {
    element("project").addEventListener("change", () => {
      history.pushState(null, "", addressOf(this.chosen));
      changed();
    });
    window.addEventListener("popstate", () => {
      if (element("bench").hidden || inAddress() === this.chosen) return;
      this.choose(inAddress());
      changed();
    });
  }

  get chosen() {
    return element("project").value;
  }

  // What there is to choose from, with the one of the address chosen.
  async show() {
    const { items } = await json("projects");
    const names = items.map(({ name }) => make("option", { value: name }, name));
    element("project").replaceChildren(make("option", { value: "" }, "all projects"), ...names);
    this.choose(inAddress());
  }

  // One that there is not is chosen all the same: the server's refusal then says so, and nothing else is shown instead.
  choose(name) {
    const select = element("project");
    if (![...select.options].some((option) => option.value === name)) {
      select.append(make("option", { value: name }, `${name} (unknown)`));
    }
    select.value = name;
  }
}
