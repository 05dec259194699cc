"""What a run shows people: ``report.html``, ``model_card.md``, and pages that compare runs."""
