  // The reader's choice of the baseline. What depends on it stands once for every choice in an inert template; a part
  // that was shown before is put back as it was.
  const chooser = document.getElementById("baseline");
  const givenBaseline = chooser?.value ?? "";
  let shownBaseline = givenBaseline;
  const baselineParts = [...document.querySelectorAll("[data-part]")].map((part) => ({ part, held: new Map() }));
  const baselineName = () => chooser.selectedOptions[0].textContent;
  const baselineInAddress = () => (chooser && shownBaseline !== givenBaseline ? baselineName() : "");

  function partFor(key, number) {
    const template = [...document.querySelectorAll("template[data-for]")]
      .find((each) => each.dataset.for === key && each.dataset.baseline === number);
    return template ? [...document.importNode(template.content, true).childNodes] : [];
  }

  function exchange({ part, held }, number) {
    const open = [...part.querySelectorAll("details")].map((each) => each.open);
    held.set(shownBaseline, [...part.childNodes]);
    const isNew = !held.has(number);
    part.replaceChildren(...(held.get(number) ?? partFor(part.dataset.part, number)));
    if (isNew) enhance(part);
    const details = [...part.querySelectorAll("details")];
    if (details.length === open.length) details.forEach((each, index) => { each.open = open[index]; });
    const section = part.closest("section");
    section.hidden = ![...section.querySelectorAll(":scope > :not(h2):not([data-part]), [data-part] *")].length;
    const link = [...document.querySelectorAll("nav a")].find((each) => each.hash === `#${section.id}`);
    if (link) link.parentElement.hidden = section.hidden;
  }

  function showBaseline(number) {
    if (number === shownBaseline) return;
    for (const each of baselineParts) exchange(each, number);
    shownBaseline = number;
    chooser.value = number;
    for (const browser of browsers) browser.against(Number(number));
    const mark = document.querySelector(".chip .mark");
    const chip = document.querySelector(`.chip[data-choice="${number}"]`);
    if (mark && chip) chip.append(" ", mark);
    document.querySelector(".choice output").textContent = `All differences are from ${baselineName()}.`;
  }

  function rememberBaseline() {
    const [key, state] = location.hash.slice(1).split(/\?(.*)/s);
    const parameters = new URLSearchParams(state ?? "");
    parameters.delete("baseline");
    if (baselineInAddress()) parameters.set("baseline", baselineInAddress());
    try {
      history.replaceState(null, "", `#${key || "baseline"}${parameters.size ? `?${parameters}` : ""}`);
    } catch { /* as for lists */ }
  }

  function baselineOf(parameters) {
    const wanted = parameters.get("baseline");
    const option = chooser && wanted !== null ? [...chooser.options].find((each) => each.textContent === wanted) : null;
    if (option) showBaseline(option.value);
    parameters.delete("baseline");
  }
